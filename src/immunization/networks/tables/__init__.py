"""Tables of studies of networks, one file each; files whose name begins with _ are shared."""
