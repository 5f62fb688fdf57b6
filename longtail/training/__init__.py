"""Loops and steps that make networks: teachers, their labels, students. Nothing here reads reports."""
