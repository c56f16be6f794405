"""The software sale: qualified, shown, tried, proposed, reviewed."""

from app.domain.pipeline import Flow
from app.domain.templates.writing import (
    COMPETITOR,
    NO_BUDGET,
    NO_DECISION,
    PRICE,
    PRODUCT_GAP,
    SILENCE,
    TIMING,
    Outline,
    Step,
)

OUTLINE = Outline(
    key="software",
    name=("Software sale", "软件销售"),
    description=(
        "Qualified, demo, trial, proposal, review: software that is tried before it is bought.",
        "线索确认、演示、试用、方案、评审：先试后买的软件订阅。",
    ),
    flow=Flow.FREE,
    steps=(
        Step(
            key="qualified",
            name=("Qualified", "线索确认"),
            probability="0.1",
            idle_after="P7D",
            idle_high="P3D",
            target_conversion="0.6",
            target_dwell="P7D",
            follow_up_every="P3D",
            goal=(
                "The team, the use and the reason for now are known.",
                "明确使用团队、用途和为什么是现在。",
            ),
            actions=(
                ("Ask what they use today and what made them look", "了解现用工具和更换原因"),
                (
                    "Ask for the number of users and what has to be connected",
                    "了解用户数与需要对接的系统",
                ),
                ("Invite those who will work with it to the demo", "邀请实际使用者参加演示"),
            ),
            criteria=(
                ("There is an occasion to act this quarter", "本季度内有行动契机"),
                ("Users and systems are known", "用户数与对接系统已知"),
            ),
        ),
        Step(
            key="demo",
            name=("Demo", "演示"),
            probability="0.25",
            idle_after="P7D",
            idle_high="P3D",
            target_conversion="0.55",
            target_dwell="P10D",
            follow_up_every="P3D",
            goal=("The team has seen its own case solved.", "团队看到自己的场景被解决。"),
            actions=(
                (
                    "Show three tasks of theirs, not a tour of all features",
                    "演示客户的三个任务，而不是功能大全",
                ),
                ("Note every question that could not be answered", "记录所有未能解答的问题"),
                ("Agree on what a trial has to prove", "约定试用要证明什么"),
            ),
            criteria=(
                ("A future user has asked about details", "未来使用者追问了细节"),
                ("What the trial has to prove stands in writing", "试用目标已书面确认"),
            ),
        ),
        Step(
            key="trial",
            name=("Trial", "试用"),
            probability="0.45",
            idle_after="P5D",
            idle_high="P2D",
            target_conversion="0.6",
            target_dwell="P14D",
            follow_up_every="P2D",
            goal=("The trial proves what was agreed.", "试用证明了约定的目标。"),
            actions=(
                ("Set it up together, with their own data", "用客户自己的数据共同完成配置"),
                (
                    "Look at the use every other day and call where it stops",
                    "隔日查看使用情况，停用即联系",
                ),
                (
                    "Have security and privacy questions answered meanwhile",
                    "同步完成安全与隐私问答",
                ),
            ),
            criteria=(
                ("The agreed tasks are done in the trial", "约定任务已在试用中完成"),
                ("Several people use it on several days", "多人多日持续使用"),
            ),
        ),
        Step(
            key="proposal",
            name=("Proposal", "方案"),
            probability="0.6",
            idle_after="P5D",
            idle_high="P2D",
            target_conversion="0.7",
            target_dwell="P10D",
            follow_up_every="P2D",
            requires=("/amount",),
            goal=(
                "The buyer has an offer that purchasing can approve.",
                "客户拿到可供采购审批的方案。",
            ),
            actions=(
                (
                    "Offer by users and term, with the benefit of the trial in figures",
                    "按用户数与期限报价，并用试用数据说明收益",
                ),
                ("Present it to the one who holds the budget", "向预算负责人讲解"),
                ("Ask for every step up to the order", "了解下单前的每个步骤"),
            ),
            criteria=(
                ("The holder of the budget supports it", "预算负责人支持"),
                ("The steps up to the order are known", "下单流程已知"),
            ),
        ),
        Step(
            key="review",
            name=("Legal and security review", "法务与安全评审"),
            probability="0.8",
            idle_after="P7D",
            idle_high="P3D",
            target_conversion="0.85",
            target_dwell="P21D",
            follow_up_every="P3D",
            requires=("/amount", "/expected_close_on"),
            goal=(
                "Contract, data protection and security are cleared.",
                "合同、数据保护与安全审查通过。",
            ),
            actions=(
                ("Send the security papers before they are asked for", "主动提供安全文件"),
                ("Bring both lawyers into one call", "让双方法务在同一次会议中沟通"),
                ("Plan the start with the future users", "与未来使用者规划上线"),
            ),
            criteria=(
                ("No clause is left open", "没有未决条款"),
                ("The date of the start is agreed", "上线日期已定"),
            ),
        ),
        Step(
            key="nurture",
            name=("Nurture", "培育"),
            probability="0.05",
            idle_after="P60D",
            idle_high="P30D",
            target_dwell="P90D",
            follow_up_every="P30D",
            off_path=True,
            goal=("We are remembered when the time has come.", "时机到来时客户能想到我们。"),
            actions=(
                ("Write when something new concerns their case", "有与其场景相关的新内容时联系"),
                ("Ask each quarter whether the occasion has come", "每季度询问时机是否成熟"),
            ),
            criteria=(("The buyer has named a time or an occasion", "客户说出了时间或契机"),),
        ),
    ),
    won=("Subscribed", "已订阅"),
    lost=("Lost", "输单"),
    loss_reasons=(
        *(PRODUCT_GAP, PRICE, COMPETITOR, NO_BUDGET, NO_DECISION, TIMING, SILENCE),
        ("trial_failed", ("The trial did not convince", "试用未达预期")),
        ("security", ("Security or legal review failed", "安全或法务评审未通过")),
    ),
)
