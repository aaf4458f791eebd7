"""Pictures by matplotlib, which is loaded for the first of them, and as text of SVG."""
