"""What the layout rgbd is made of: a filmed room, and the namings it is written in."""
