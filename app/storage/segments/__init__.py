"""Deals, their visits and changes, kept once more column by column: so, many are counted quickly.

A row of PostgreSQL costs half a microsecond to look at and three to fetch; a number in an array
costs a nanosecond. So the deals of a pipeline are **folded** into segments of some thousand each:
immutable arrays of what `population.deals` says of a deal's row, of its completed visits, and of
what its facts were before they were changed.

**When a segment answers.** A segment bears the version that each of its deals had when it was
folded, and every write of a deal makes the next one. So a deal is answered for by its segment if
and only if the deal's row says `segment_version = version`; all others are **unfolded**, found by
an index that holds no others, and read from their rows. No writer knows of segments, no clock and
no transaction id is trusted, and a restored backup is as right as the original. Reader and folder
each see one snapshot, in which a deal is in one segment or unfolded, never both.

**Folding** (`actions.fold_deals`) is done in the background when enough deals are unfolded. Erasing
a deal strikes its place out at once, and has its segment written anew.
"""
