"""The B2B sale: five open stages and the sixth, won."""

from app.domain.pipeline import Flow
from app.domain.templates.writing import (
    COMPETITOR,
    NO_BUDGET,
    NO_DECISION,
    NO_NEED,
    PRICE,
    SILENCE,
    Outline,
    Step,
)

OUTLINE = Outline(
    key="b2b",
    name=("B2B sale", "B2B 销售"),
    description=(
        "Prospect, contact, needs confirmed, quote, negotiation, won: selling to companies.",
        "潜在客户、初步接触、需求确认、报价、谈判、成交：面向企业客户的销售。",
    ),
    flow=Flow.FREE,
    steps=(
        Step(
            key="prospect",
            name=("Prospect", "潜在客户"),
            probability="0.05",
            idle_after="P14D",
            idle_high="P7D",
            target_conversion="0.5",
            target_dwell="P14D",
            follow_up_every="P7D",
            goal=(
                "We know that the company fits, and whom to speak to.",
                "确认企业符合条件，并找到对接人。",
            ),
            actions=(
                (
                    "Check size, industry and region against the target customer",
                    "核对规模、行业、区域是否符合目标客户",
                ),
                (
                    "Find two people: one with the problem, one with the budget",
                    "找到两个人：有痛点的人和有预算的人",
                ),
                (
                    "Look for an occasion: a new site, a tender, a new manager",
                    "寻找切入契机：新项目、招标、新负责人",
                ),
            ),
            criteria=(
                ("The company fits the target customer", "企业符合目标客户画像"),
                ("A person with the problem is known by name", "已知有痛点的具体联系人"),
            ),
        ),
        Step(
            key="contact",
            name=("First contact", "初步接触"),
            probability="0.15",
            idle_after="P10D",
            idle_high="P5D",
            target_conversion="0.6",
            target_dwell="P14D",
            follow_up_every="P5D",
            requires=("/owner",),
            goal=(
                "A conversation about the buyer's problem has begun.",
                "围绕客户问题的对话已经展开。",
            ),
            actions=(
                ("Call, then write: refer to the occasion", "先电话后邮件，围绕契机展开"),
                ("Ask about the present way of working and what it costs", "了解现状及其代价"),
                ("Agree on the next meeting before the call ends", "通话结束前约好下次会面"),
            ),
            criteria=(
                ("The contact has confirmed the problem", "联系人确认存在该问题"),
                ("The next meeting is dated", "下次会面时间已定"),
            ),
        ),
        Step(
            key="needs_confirmed",
            name=("Needs confirmed", "需求确认"),
            probability="0.3",
            idle_after="P10D",
            idle_high="P5D",
            target_conversion="0.65",
            target_dwell="P21D",
            follow_up_every="P4D",
            goal=(
                "Need, budget, decision and time frame are confirmed in writing.",
                "书面确认需求、预算、决策流程与时间表。",
            ),
            actions=(
                (
                    "Meet everyone who has a say and hear each one's aim",
                    "拜访所有关键人，了解各自目标",
                ),
                ("Put a figure on the benefit together with the buyer", "与客户一起量化收益"),
                ("Send a summary of the needs and have it confirmed", "发送需求纪要并取得确认"),
            ),
            criteria=(
                ("The summary of needs is confirmed", "需求纪要已确认"),
                ("Budget and way of deciding are known", "预算与决策流程已知"),
                ("The buyer has a date by which it must be solved", "客户有必须解决的期限"),
            ),
        ),
        Step(
            key="quote",
            name=("Quote", "报价"),
            probability="0.5",
            idle_after="P7D",
            idle_high="P3D",
            target_conversion="0.6",
            target_dwell="P14D",
            follow_up_every="P3D",
            requires=("/amount",),
            goal=("The buyer has understood the offer and answers it.", "客户理解报价并作出答复。"),
            actions=(
                (
                    "Walk the buyer through the offer instead of mailing it",
                    "当面讲解报价，而不只是发邮件",
                ),
                (
                    "Offer two or three variants, tied to the confirmed needs",
                    "提供两到三种对应需求的方案",
                ),
                ("Name how long it holds and follow up before that", "注明有效期并在到期前跟进"),
            ),
            criteria=(
                ("The one who decides has seen the price", "决策人已看到价格"),
                ("Objections are on the table", "异议已经摆到桌面上"),
            ),
        ),
        Step(
            key="negotiation",
            name=("Negotiation", "谈判"),
            probability="0.75",
            idle_after="P5D",
            idle_high="P2D",
            target_conversion="0.8",
            target_dwell="P14D",
            follow_up_every="P2D",
            requires=("/amount", "/expected_close_on"),
            goal=(
                "Both sides agree on scope, price and terms.",
                "双方就范围、价格与条款达成一致。",
            ),
            actions=(
                (
                    "List all open points, then trade: nothing is given for nothing",
                    "列出全部遗留问题，逐项交换条件，不单方让步",
                ),
                ("Bring purchasing and legal in early", "尽早引入采购与法务"),
                ("Settle the steps up to the signature with dates", "约定到签约为止的每一步及日期"),
            ),
            criteria=(
                ("No open point is left but the signature", "除签字外没有遗留问题"),
                ("The one who signs and the date are known", "签字人与签约日期已知"),
            ),
        ),
    ),
    won=("Won", "成交"),
    lost=("Lost", "输单"),
    loss_reasons=(PRICE, COMPETITOR, NO_BUDGET, NO_NEED, NO_DECISION, SILENCE),
)
