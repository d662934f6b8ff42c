"""One file per datapath of the machine."""
