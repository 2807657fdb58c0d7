"""What every job needs. It knows no study, method or figure."""
