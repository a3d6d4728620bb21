"""`ocean-emulators …`, the commands for people."""
