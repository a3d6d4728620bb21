"""`python -m ocean_emulators.cli`: the same as `ocean-emulators`."""

from ocean_emulators.cli.main import main

main()
