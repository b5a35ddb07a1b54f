"""Who is of a product's team, said in SQL for many at once; for one viewer it is Viewer.belongs_to."""


def of_the_team(*, person: str, organization: str, product: str) -> str:
    """Whether the person has a seat, and the product is there for them; each of the three is a column or a placeholder."""
    return f"""EXISTS (
        SELECT 1 FROM member LEFT JOIN product_role ON product_role.member_id = member.id AND product_role.product_id = {product}
         WHERE member.user_id = {person} AND member.organization_id = {organization}
           AND COALESCE(product_role.role, member.role) <> 'NONE')"""
