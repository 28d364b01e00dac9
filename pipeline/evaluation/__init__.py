"""From masks to scores, tables, pictures and pages.

The modules read and compute; only `tables` and `report_page` write files, for the stages. This room
may import settings, storage and what lies below them; stages and every later room may import it. A
picture or a page computes no score.

- `patient_scores`: the scores of one patient.
- `summary`: the summary over patients.
- `score_files`: reads both from the files of stage evaluate.
- `comparison`, `table_notes`: the comparison of experiments, and the notes below it.
- `contrast`: how well residual maps show lesions.
- `tables`: tables as Markdown and CSV.
- `orientation`, `case_view`: slices with their maps and masks, turned for display.
- `colours`: the colours of pictures and figures.
- `pictures`, `score_pictures`: figures of cases and trainings, and of scores.
- `report_parts`: the smaller tables of the report.
- `report_page/`: the opening sentences of the report's page, and its cases to scroll through.
- `cohort/`: scans to which a trained model was applied: measures, table, page.
- `figures/`: the paper's figures, for print.
- `pages`: HTML from the templates in `templates/`.
"""
