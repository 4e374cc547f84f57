"""The parts of the layout `nuscenes`: the car and its drive, the tables, the objects, the truth."""
