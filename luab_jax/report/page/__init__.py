"""The report as one HTML page: tables, figures as inline SVG, nothing loaded from anywhere."""
