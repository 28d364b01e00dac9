"""What only the report's page has: its opening sentences, and cases to scroll through.

- `sample`: which cases are shown where there are too many.
- `lead`: the sentences at the top.
- `outlines`: masks as SVG paths.
- `slices`: a case's slices, as its figure embeds them.
- `case_figures`: the figures in the main page, or on a page for each case.
"""
