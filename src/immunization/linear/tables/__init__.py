"""Tables of linear studies, one file each; files whose name begins with _ are shared."""
