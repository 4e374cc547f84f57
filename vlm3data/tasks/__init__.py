"""Tasks: question, truth, parser and metric of one skill in one file."""
