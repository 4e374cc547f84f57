"""What the pose task is made of: what is asked, and how its answers are written and read."""
