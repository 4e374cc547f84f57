"""One file a layout: synthetic scenes written in the files of a real dataset, with the exact truth beside them."""
