"""What a net is made of, read from the net itself."""
