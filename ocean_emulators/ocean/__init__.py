"""What is true of any ocean: fields and their names, grids, calendars, regions, constants."""
