"""A funnel of four deals, worked out by hand."""

from typing import Final

from app.domain.catalogue.writing import Text

_FIGURES: Final = """\
| 1 lead | 4 | 3 | 1 | 0 | 0 | 4/4 | 4/4 |
| 2 offer | 4 | 4 | 0 | 2 | 1 | 1/4 | 1/2 |
| 3 won | 1 | 1 | 0 | 0 | 0 | | |
"""

FOUR_DEALS: Final = Text(
    f"""\
lead → offer → won or lost, and four deals of one month:

| deal | its way | at T |
|---|---|---|
| A | lead, offer, won | won |
| B | lead, offer, lost | lost |
| C | lead, offer | open |
| D | offer (opened there) | open |

| rank | reached | entered | implied | open_furthest | lost_furthest | to next | decided |
|---|---|---|---|---|---|---|---|
{_FIGURES}
D never saw lead, but it has come as far: lead is implied. Of the four that reached offer one was
won, 25 %; two are undecided, and of the other two half were won.""",
    f"""\
lead → offer → won 或 lost，某月的四个商机：

| 商机 | 路径 | T 时 |
|---|---|---|
| A | lead、offer、won | 赢单 |
| B | lead、offer、lost | 丢单 |
| C | lead、offer | 进行中 |
| D | offer（直接在此打开） | 进行中 |

| 位次 | reached | entered | implied | open_furthest | lost_furthest | 至下一阶段 | 已决 |
|---|---|---|---|---|---|---|---|
{_FIGURES}
D 从未到过 lead，却已走得同样远：lead 视为被跳过。到达 offer 的四个商机中一个赢单，转化率 25%；
两个尚未见分晓，其余两个中赢下一半。""",
)
