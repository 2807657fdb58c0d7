"""Model immunization studies: tasks, methods, attackers, tables, figures and a report."""

__version__ = "0.1.0"
