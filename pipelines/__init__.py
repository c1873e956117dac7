"""Studies: one script per study, which is read from top to bottom; its helpers are in the folder beside it.

Results and figures of the studies are in docs/studies/.
"""
