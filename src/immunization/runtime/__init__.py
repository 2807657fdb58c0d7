"""What every job needs, whatever it computes; knows no study, method or figure."""
