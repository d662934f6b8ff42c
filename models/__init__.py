"""The machine as mathematics (`reference`) and as transactions (`transaction`, `memory`)."""
