"""The work of the flows as plain functions, without Prefect."""
