"""Work that can be sent elsewhere: a job carries all that it needs, reads no `params.yaml`, and writes no output of DVC's.

A job leaves its results in a folder of its own, whole or not at all; the stage that waits for it puts them into place.
"""
