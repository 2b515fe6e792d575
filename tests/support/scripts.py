"""Texts of ten languages with a query for each, and identifiers with their parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Language:
    """`query` asks for words of `text`."""

    name: str
    text: str
    query: str


LANGUAGES: Final = (
    Language("English", "The pump must be switched off before the filter is changed.", "FILTER changed"),
    Language("German", "Vor dem Wechsel des Ölfilters ist die Straßenpumpe abzuschalten.", "ölfilters STRASSENPUMPE"),
    Language("Russian", "Перед заменой фильтра отключите насос.", "Насос фильтра"),
    Language("Greek", "Πριν από την αλλαγή του φίλτρου κλείστε την αντλία.", "αντλια φιλτρου"),
    Language("Arabic", "يجب إيقاف المضخّة قبل تغيير المُرشِّح.", "المضخة المرشح"),
    Language("Hindi", "फ़िल्टर बदलने से पहले पंप बंद कर दें।", "पंप बंद"),
    Language("Chinese", "更换过滤器之前必须关闭水泵。", "过滤器 水泵"),
    Language("Japanese", "フィルターを交換する前にポンプを停止してください。", "ポンプ 停止"),
    Language("Korean", "필터를 교체하기 전에 펌프를 꺼야 합니다.", "펌프 필터"),
    Language("Thai", "ต้องปิดปั๊มน้ำก่อนเปลี่ยนไส้กรอง", "ปั๊มน้ำ ไส้กรอง"),
)
IDENTIFIERS: Final = (
    ("MILVUS_URI", {"milvus", "uri"}),
    ("E1234", {"1234"}),
    ("foo::bar", {"foo", "bar"}),
    ("read.table", {"read", "table"}),
    ("utils::read.table", {"utils", "read.table", "read", "table"}),
    ("HTTPServerError", {"http", "server", "error"}),
    ("getElementById", {"get", "element", "by", "id"}),
    ("A-4711/2024", {"a-4711", "4711", "2024"}),
    ("user@example.org", {"user", "example.org", "example"}),
    ("/etc/nginx/nginx.conf".removeprefix("/"), {"etc", "nginx.conf", "conf"}),
    ("x86_64", {"x86", "64"}),
    ("C++", {"c"}),
)
