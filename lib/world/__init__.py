"""How the miniature world is drawn; `lib.miniworld` is its only door.

Downwards: `plan`, `census` (what there is) · `scenes`, `junk` (photographs) · `street`, `places`,
`weather` (what is in them) · `kinds`, `sacred`, `civic`, `modern`, `nature`, `rooms` (landmarks) ·
`building` (their parts) · `facades`, `motifs`, `interiors`, `canvas`, `sprites`, `trees` (textures)
· `looks`, `styles` (choices) · `camera`, `solids` (the renderer).
"""
