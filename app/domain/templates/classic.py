"""The classic funnel of five: from the first notice to the purchase."""

from app.domain.pipeline import Flow
from app.domain.templates.writing import (
    COMPETITOR,
    NO_NEED,
    PRICE,
    SILENCE,
    TIMING,
    Outline,
    Step,
)

OUTLINE = Outline(
    key="classic",
    name=("Classic funnel", "经典销售漏斗"),
    description=(
        "Awareness, interest, consideration, intent, purchase: for short sales to many buyers.",
        "认知、兴趣、考虑、意向、购买：适合客户多、周期短的销售。",
    ),
    flow=Flow.FREE,
    steps=(
        Step(
            key="awareness",
            name=("Awareness", "认知"),
            probability="0.05",
            idle_after="P14D",
            idle_high="P7D",
            target_conversion="0.4",
            target_dwell="P14D",
            follow_up_every="P7D",
            goal=(
                "The buyer knows what we solve, and for whom.",
                "让客户知道我们为谁解决什么问题。",
            ),
            actions=(
                (
                    "Reach out with one concrete problem, not with the product",
                    "从客户的具体问题切入，而不是介绍产品",
                ),
                ("Note where the contact came from", "记录线索来源"),
                ("Check that the contact fits the target customer", "核对是否符合目标客户画像"),
            ),
            criteria=(
                ("The contact has reacted at least once", "对方至少有过一次回应"),
                ("It fits the target customer", "符合目标客户画像"),
            ),
        ),
        Step(
            key="interest",
            name=("Interest", "兴趣"),
            probability="0.15",
            idle_after="P10D",
            idle_high="P5D",
            target_conversion="0.5",
            target_dwell="P14D",
            follow_up_every="P5D",
            goal=(
                "The buyer wants to learn more and says why.",
                "客户愿意进一步了解，并说明原因。",
            ),
            actions=(
                ("Answer the first questions within a working day", "一个工作日内答复首批问题"),
                ("Share one case of a similar customer", "分享一个同类客户案例"),
                ("Agree on a first conversation", "约定第一次深入交流"),
            ),
            criteria=(
                ("A conversation has taken place or is dated", "已经交流或已约定时间"),
                ("The buyer has named a problem in own words", "客户用自己的话说出了问题"),
            ),
        ),
        Step(
            key="consideration",
            name=("Consideration", "考虑"),
            probability="0.35",
            idle_after="P7D",
            idle_high="P4D",
            target_conversion="0.6",
            target_dwell="P21D",
            follow_up_every="P4D",
            goal=(
                "The buyer compares us with the alternatives on our strengths.",
                "客户按我们的优势比较各个方案。",
            ),
            actions=(
                (
                    "Ask what else is being compared, doing nothing included",
                    "了解对比对象，包括“什么都不做”",
                ),
                ("Show the offer on the buyer's own case", "用客户自己的场景演示"),
                ("Find out who decides and by what", "弄清谁决策、看重什么"),
            ),
            criteria=(
                ("The alternatives are known", "竞争方案已知"),
                ("The one who decides is known", "决策人已知"),
            ),
        ),
        Step(
            key="intent",
            name=("Intent", "意向"),
            probability="0.65",
            idle_after="P5D",
            idle_high="P2D",
            target_conversion="0.75",
            target_dwell="P10D",
            follow_up_every="P2D",
            requires=("/amount",),
            goal=(
                "The buyer intends to buy from us and says on what terms.",
                "客户明确要向我们购买，并提出条件。",
            ),
            actions=(
                ("Send the offer and walk through it together", "发出报价并当面讲解"),
                ("Settle open questions one by one, in writing", "逐条书面解决遗留问题"),
                ("Agree on the date of the decision", "约定决策日期"),
            ),
            criteria=(
                ("Price and scope are accepted in principle", "价格与范围原则上被接受"),
                ("A date for the decision stands", "决策日期已定"),
            ),
        ),
        Step(
            key="purchase",
            name=("Purchase", "购买"),
            probability="0.9",
            idle_after="P3D",
            idle_high="P1D",
            target_conversion="0.92",
            target_dwell="P7D",
            follow_up_every="P1D",
            requires=("/amount", "/expected_close_on"),
            goal=("The order is placed and paid without friction.", "订单顺利签下并付款。"),
            actions=(
                ("Send order form and payment terms", "发送订单与付款条款"),
                ("Remove the last formal obstacle", "扫清最后的手续障碍"),
                ("Hand over to those who deliver", "与交付团队交接"),
            ),
            criteria=(
                ("The order form lies with the one who signs", "订单已到签字人手中"),
                ("Payment terms are agreed", "付款条款已确认"),
            ),
        ),
    ),
    won=("Won", "成交"),
    lost=("Lost", "流失"),
    loss_reasons=(PRICE, COMPETITOR, NO_NEED, TIMING, SILENCE),
)
