"""The parts of the objects task: its categories, the regions it asks about, what is measured, said and read."""
