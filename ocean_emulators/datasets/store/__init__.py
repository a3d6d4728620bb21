"""The packed training store: its layout, its files, its encoding."""
