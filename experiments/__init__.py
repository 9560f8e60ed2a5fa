"""Maths: design, assignment, comparison, decision."""
