"""What both kinds of study share of tables, figures and the report."""
