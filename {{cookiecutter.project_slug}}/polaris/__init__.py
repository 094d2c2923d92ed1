"""Machinery that nobody needs to edit: facts of the machine, checks, the ensemble's engine, its
views.
"""
