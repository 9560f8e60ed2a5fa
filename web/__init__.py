"""The analyst's pages and reports."""
