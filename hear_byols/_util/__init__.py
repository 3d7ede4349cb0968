"""What every room needs and none owns: files written whole, memory, precision."""
