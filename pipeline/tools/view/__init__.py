"""`grcsf view`: a page on this machine alone, which shows cases in three planes with their layers.

- `view`: serves the page until Ctrl-C.
- `server`: who may ask, and the headers of every answer.
- `answers`: what each path of the page is answered with.
- `cases`: the cases that are shown, their scores and their order.
- `layers`: what can be laid over one another of a case, as NIfTI.

`static/` has the page, its script and style, and NiiVue, which draws (see `static/niivue.md`).
"""
