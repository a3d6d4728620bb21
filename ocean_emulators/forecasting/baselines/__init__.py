"""What an emulator must beat: a module each, which registers it under its name."""
