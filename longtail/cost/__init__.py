"""What a target will cost before it is run: time, memory, disk."""
