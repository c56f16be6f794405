"""High-value deals: few, long, decided at the top, with an executive visit as a step of its own."""

from app.domain.pipeline import Flow
from app.domain.templates.writing import (
    COMPETITOR,
    NO_BUDGET,
    NO_DECISION,
    PRICE,
    PRODUCT_GAP,
    TIMING,
    Outline,
    Step,
)

OUTLINE = Outline(
    key="executive",
    name=("High-value deal", "大客户销售"),
    description=(
        "Step by step, with an executive visit before the contract: for few and large deals.",
        "逐级推进，签约前安排高层拜访：适合数量少、金额大的项目。",
    ),
    flow=Flow.SEQUENTIAL,
    steps=(
        Step(
            key="identified",
            name=("Identified", "商机识别"),
            probability="0.05",
            idle_after="P21D",
            idle_high="P14D",
            target_conversion="0.5",
            target_dwell="P30D",
            follow_up_every="P14D",
            goal=("The project is real and worth a team.", "项目真实存在，值得投入团队。"),
            actions=(
                (
                    "Find the project in the customer's plans: budget, programme, tender",
                    "在客户规划、预算或招标中找到项目依据",
                ),
                (
                    "Draw the map of people: who decides, who advises, who objects",
                    "绘制关键人图：谁决策、谁影响、谁反对",
                ),
                ("Decide whether to go for it, and note why", "做出是否投入的决定并记录理由"),
            ),
            criteria=(
                ("The customer has a project with a name", "客户内部已立项"),
                ("We have decided to go for it", "我方已决定投入"),
            ),
        ),
        Step(
            key="discovery",
            name=("Discovery", "需求调研"),
            probability="0.15",
            idle_after="P14D",
            idle_high="P7D",
            target_conversion="0.6",
            target_dwell="P45D",
            follow_up_every="P7D",
            requires=("/owner",),
            goal=(
                "Aims and constraints of every department are known.",
                "掌握各部门的目标与约束。",
            ),
            actions=(
                ("Hold workshops with each department concerned", "与各相关部门开展研讨"),
                ("Win a sponsor who speaks for us inside", "在客户内部找到支持者"),
                ("Work out the business case in the customer's figures", "用客户数据测算商业价值"),
            ),
            criteria=(
                ("A sponsor opens doors for us", "支持者愿意为我们引荐"),
                ("The business case is the customer's own", "商业价值测算得到客户认同"),
            ),
        ),
        Step(
            key="solution",
            name=("Solution", "方案设计"),
            probability="0.3",
            idle_after="P14D",
            idle_high="P7D",
            target_conversion="0.65",
            target_dwell="P45D",
            follow_up_every="P7D",
            requires=("/amount",),
            goal=("The customer's experts stand behind the solution.", "客户专家认可方案。"),
            actions=(
                ("Design it together with the customer's experts", "与客户专家共同设计方案"),
                ("Arrange a visit to a reference customer", "安排参观标杆客户"),
                ("Name risks and who bears which", "列明风险及责任方"),
            ),
            criteria=(
                ("The experts have approved it in writing", "专家书面认可"),
                ("Scope and price range are accepted", "范围与价格区间被接受"),
            ),
        ),
        Step(
            key="executive_visit",
            name=("Executive visit", "高层拜访"),
            probability="0.5",
            idle_after="P14D",
            idle_high="P7D",
            target_conversion="0.7",
            target_dwell="P30D",
            follow_up_every="P7D",
            requires=("/amount", "/expected_close_on"),
            goal=(
                "Both managements want it, and have said so to each other.",
                "双方高层达成合作意愿并当面确认。",
            ),
            actions=(
                (
                    "Brief our executive on one page: aims, people, what to ask for",
                    "为我方高层准备一页简报：目标、人物、诉求",
                ),
                (
                    "Meet at eye level, about the aim and not the price",
                    "对等会面，谈目标而不谈价格",
                ),
                (
                    "Send the summary with what was promised within two days",
                    "两日内发出纪要与承诺事项",
                ),
            ),
            criteria=(
                (
                    "The customer's executive has named the aim and the time",
                    "客户高层明确目标与时间",
                ),
                ("Both sides have named who carries it on", "双方已指定推进负责人"),
            ),
        ),
        Step(
            key="proposal",
            name=("Proposal", "正式报价"),
            probability="0.6",
            idle_after="P10D",
            idle_high="P5D",
            target_conversion="0.75",
            target_dwell="P30D",
            follow_up_every="P5D",
            goal=("Our offer is the one that the committee prefers.", "我方报价成为评审首选。"),
            actions=(
                ("Rehearse the presentation with the sponsor", "与支持者预演汇报"),
                ("Answer every requirement by number", "逐条响应需求"),
                (
                    "Let the executives speak once more before the decision",
                    "决策前安排高层再次沟通",
                ),
            ),
            criteria=(
                ("We stand on the short list", "进入候选名单"),
                ("Day and members of the committee are known", "评审日期与成员已知"),
            ),
        ),
        Step(
            key="contract",
            name=("Contract", "合同谈判"),
            probability="0.8",
            idle_after="P7D",
            idle_high="P3D",
            target_conversion="0.88",
            target_dwell="P30D",
            follow_up_every="P3D",
            goal=("The contract is signed as it was negotiated.", "按谈定条件签署合同。"),
            actions=(
                (
                    "Negotiate from one list of open points with dates",
                    "用一份带期限的问题清单推进谈判",
                ),
                ("Have delivery confirm dates and people", "由交付团队确认日期与人员"),
                ("Prepare the handover before the signature", "签约前准备交接"),
            ),
            criteria=(
                ("Only the signatures are missing", "只差签字"),
                ("Delivery has confirmed", "交付团队已确认"),
            ),
        ),
        Step(
            key="on_hold",
            name=("On hold", "暂缓"),
            probability="0.1",
            idle_after="P45D",
            idle_high="P30D",
            target_dwell="P90D",
            follow_up_every="P30D",
            off_path=True,
            goal=(
                "The project lives on, and we hear first when it goes on.",
                "项目仍在，重启时我们最先知道。",
            ),
            actions=(
                ("Note what it waits for, and until when", "记录等待的事项与期限"),
                ("Keep in touch with the sponsor", "与支持者保持联系"),
            ),
            criteria=(("What it waits for is known", "暂缓原因明确"),),
        ),
    ),
    won=("Won", "成交"),
    lost=("Lost", "输单"),
    loss_reasons=(
        *(COMPETITOR, PRICE, NO_BUDGET, NO_DECISION, PRODUCT_GAP, TIMING),
        ("relationship", ("No access to those who decide", "未能接触决策层")),
        ("withdrawn", ("We withdrew", "我方放弃")),
    ),
)
