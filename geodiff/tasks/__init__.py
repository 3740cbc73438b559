"""The jobs that compose the other rooms; only the command line imports them."""
