"""The paper's figures from a data set's results, as a journal prints them.

They compute no score. Each is a function that returns its drawing and its caption.

- `contents`: which figures a data set has, and what they show.
- `shown_cases`: the cases and slices, by rule or by setting.
- `journal`: sizes in mm, type, lines, letters, and the files of a figure.
- `panels`: a slice in a panel: contours, error maps, maps, scale bars.
- `reconstructions` (Fig. 3), `methods` (Figs. 6 to 8), `lesion_sizes` (Fig. 9), `guidance`
  (Fig. 10), `sources` (Fig. 11): the figures.
"""
