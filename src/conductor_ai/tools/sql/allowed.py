"""What a statement may be made of: everything that is not listed here is refused.

Functions and types are those of pg_catalog that compute a value from their arguments and nothing else: none reads a
setting, a file, another session or the catalogue, none writes, waits, locks or tells anybody, and none runs a
text as SQL (`ts_stat`, `query_to_xml`).
Source: PostgreSQL documentation, chapters 8 "Data Types" and 9 "Functions and Operators", version 18.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# By the parser's node: the fields that may hold something. `location` and its like are positions, not content.
POSITIONS = _words("location list_start list_end rexpr_list_start rexpr_list_end name_location")

_QUERY_NODES = {
    "SelectStmt": "distinctClause targetList fromClause whereClause groupClause groupDistinct havingClause windowClause"
    " valuesLists sortClause limitOffset limitCount limitOption withClause op all larg rarg",
    "WithClause": "ctes recursive",
    "CommonTableExpr": "ctename aliascolnames ctematerialized ctequery search_clause cycle_clause",
    "CTESearchClause": "search_col_list search_breadth_first search_seq_column",
    "CTECycleClause": "cycle_col_list cycle_mark_column cycle_mark_value cycle_mark_default cycle_path_column",
    "ResTarget": "name val",
    "RangeVar": "schemaname relname inh relpersistence alias",
    "RangeSubselect": "lateral subquery alias",
    "RangeFunction": "lateral ordinality is_rowsfrom functions alias coldeflist",
    "RangeTableSample": "relation method args repeatable",
    "JoinExpr": "jointype isNatural larg rarg usingClause join_using_alias quals alias rtindex",
    "Alias": "aliasname colnames",
    # The one-letter fields hold a zero byte: they mean something in CREATE TABLE only.
    "ColumnDef": "colname typeName collClause is_local storage identity generated",
    "GroupingSet": "kind content",
    "GroupingFunc": "args",
    "SortBy": "node sortby_dir sortby_nulls useOp",
    "WindowDef": "name refname partitionClause orderClause frameOptions startOffset endOffset",
}
_EXPRESSION_NODES = {
    "A_ArrayExpr": "elements",
    "A_Const": "isnull val",
    "A_Expr": "kind name lexpr rexpr",
    "A_Indices": "is_slice lidx uidx",
    "A_Indirection": "arg indirection",
    "A_Star": "",
    "BitString": "bsval",
    "BoolExpr": "boolop args",
    "Boolean": "boolval",
    "BooleanTest": "arg booltesttype",
    "CaseExpr": "arg args defresult",
    "CaseWhen": "expr result",
    "CoalesceExpr": "args",
    "CollateClause": "arg collname",
    "ColumnRef": "fields",
    "Float": "fval",
    "FuncCall": "funcname args agg_order agg_filter agg_within_group agg_star agg_distinct over func_variadic"
    " funcformat",
    "Integer": "ival",
    "MinMaxExpr": "op args",
    "NamedArgExpr": "arg name argnumber",
    "NullTest": "arg nulltesttype argisrow",
    "ParamRef": "number",
    "RowExpr": "args row_format",
    "SQLValueFunction": "op typmod",
    "String": "sval",
    "SubLink": "subLinkType subLinkId testexpr operName subselect",
    "TypeCast": "arg typeName",
    "TypeName": "names typmods typemod arrayBounds",
}
_JSON_NODES = {
    "JsonAggConstructor": "output agg_filter agg_order over",
    "JsonArgument": "val name",
    "JsonArrayAgg": "constructor arg absent_on_null",
    "JsonArrayConstructor": "exprs output absent_on_null",
    "JsonArrayQueryConstructor": "query output format absent_on_null",
    "JsonBehavior": "btype expr coerce",
    "JsonFormat": "format_type encoding",
    "JsonFuncExpr": "op column_name context_item pathspec passing output on_empty on_error wrapper quotes",
    "JsonIsPredicate": "expr format item_type unique_keys",
    "JsonKeyValue": "key value",
    "JsonObjectAgg": "constructor arg absent_on_null unique",
    "JsonObjectConstructor": "exprs output absent_on_null unique",
    "JsonOutput": "typeName returning",
    "JsonReturning": "format typmod",
    "JsonTable": "context_item pathspec passing columns on_error alias lateral",
    "JsonTableColumn": "coltype name typeName pathspec format wrapper quotes columns on_empty on_error",
    "JsonTablePathSpec": "string name",
    "JsonValueExpr": "raw_expr formatted_expr format",
}
_CHANGE_NODES = {
    "InsertStmt": "relation cols selectStmt onConflictClause returningList returningClause withClause",
    "UpdateStmt": "relation targetList whereClause fromClause returningList returningClause withClause",
    "DeleteStmt": "relation usingClause whereClause returningList returningClause withClause",
    "OnConflictClause": "action infer targetList whereClause",
    "InferClause": "indexElems whereClause conname",
    "IndexElem": "name expr ordering nulls_ordering",
    "ReturningClause": "exprs",
    "MultiAssignRef": "source colno ncolumns",
    "SetToDefault": "typeMod",
}


def _fields(*tables: dict[str, str]) -> dict[str, frozenset[str]]:
    return {node: _words(fields) for table in tables for node, fields in table.items()}


NODES = _fields(_QUERY_NODES, _EXPRESSION_NODES, _JSON_NODES)
NODES_OF_A_CHANGE = _fields(_QUERY_NODES, _EXPRESSION_NODES, _JSON_NODES, _CHANGE_NODES)

# Rows from a function in FROM: the columns that it names itself; None where the column takes the alias's name.
ROWS_FROM: dict[str, tuple[str, ...] | None] = {
    "generate_series": None,
    "generate_subscripts": None,
    "json_array_elements": ("value",),
    "json_array_elements_text": ("value",),
    "json_each": ("key", "value"),
    "json_each_text": ("key", "value"),
    "json_object_keys": None,
    "json_to_record": (),
    "json_to_recordset": (),
    "jsonb_array_elements": ("value",),
    "jsonb_array_elements_text": ("value",),
    "jsonb_each": ("key", "value"),
    "jsonb_each_text": ("key", "value"),
    "jsonb_object_keys": None,
    "jsonb_path_query": None,
    "jsonb_path_query_tz": None,
    "jsonb_to_record": (),
    "jsonb_to_recordset": (),
    "regexp_matches": None,
    "regexp_split_to_table": None,
    "string_to_table": None,
    "unnest": None,
}

GROWING = frozenset(
    {"array_fill", "bpchar", "bit", "lpad", "overlay", "regexp_replace", "repeat", "replace", "rpad", "varbit"}
)
"""Functions and types that make much of little, and that the server computes while it plans."""

FUNCTIONS = frozenset(ROWS_FROM) | _words(
    # aggregates
    """any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp every json_agg
    json_object_agg jsonb_agg jsonb_object_agg max min mode percentile_cont percentile_disc range_agg
    range_intersect_agg regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
    stddev stddev_pop stddev_samp string_agg sum var_pop var_samp variance"""
    # windows
    " cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number"
    # numbers
    """ abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh bit_count cbrt ceil ceiling cos cosd cosh
    cot cotd degrees div erf erfc exp factorial floor gamma gcd lcm lgamma ln log log10 min_scale mod numeric pi power
    radians random random_normal round scale sign sin sind sinh sqrt tan tand tanh trim_scale trunc width_bucket
    float4 float8 int2 int4 int8"""
    # text
    """ ascii bit_length btrim casefold char_length character_length chr concat concat_ws convert_from convert_to
    crc32 crc32c decode encode format initcap is_normalized left length like_escape lower lpad ltrim md5 normalize
    octet_length overlay parse_ident position quote_ident quote_literal quote_nullable regexp_count regexp_instr
    regexp_like regexp_match regexp_replace regexp_split_to_array regexp_substr repeat replace reverse right rpad
    rtrim sha224 sha256 sha384 sha512 similar_to_escape split_part starts_with strpos string_to_array substr substring
    text to_ascii to_bin to_hex to_oct translate unicode_assigned unistr upper varchar bpchar get_bit get_byte set_bit
    set_byte"""
    # dates and times
    """ age clock_timestamp date date_add date_bin date_part date_subtract date_trunc extract interval isfinite
    justify_days justify_hours justify_interval make_date make_interval make_time make_timestamp
    make_timestamptz now overlaps statement_timestamp time timeofday timestamp timestamptz timezone to_char to_date
    to_number to_timestamp transaction_timestamp"""
    # JSON
    """ array_to_json json_array_length json_build_array json_build_object json_extract_path json_extract_path_text
    json_object json_strip_nulls json_typeof jsonb_array_length jsonb_build_array jsonb_build_object
    jsonb_concat jsonb_exists jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object jsonb_path_exists
    jsonb_path_exists_tz jsonb_path_match jsonb_path_match_tz jsonb_path_query_array jsonb_path_query_array_tz
    jsonb_path_query_first jsonb_path_query_first_tz jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls
    jsonb_typeof row_to_json to_json to_jsonb"""
    # arrays and ranges
    """ array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position array_positions
    array_prepend array_remove array_replace array_reverse array_sample array_shuffle array_sort array_to_string
    array_upper cardinality trim_array daterange int4range int8range numrange tsrange tstzrange datemultirange
    int4multirange int8multirange nummultirange tsmultirange tstzmultirange multirange isempty lower_inc lower_inf
    range_merge upper_inc upper_inf"""
    # full text search, networks, uuids, points
    """ numnode phraseto_tsquery plainto_tsquery querytree setweight strip to_tsquery to_tsvector ts_delete ts_filter
    ts_headline ts_rank ts_rank_cd tsquery_phrase tsvector_to_array array_to_tsvector websearch_to_tsquery
    abbrev broadcast family host hostmask inet_merge inet_same_family masklen netmask network set_masklen
    gen_random_uuid uuidv4 uuidv7 uuid_extract_timestamp uuid_extract_version
    area box center circle diameter height point radius width"""
    # about values, never about the database: beside pg_typeof(x) the text '16385' would be a type, shown by its name
    " num_nonnulls num_nulls pg_column_size pg_size_pretty"
)

TYPES = _words(
    """bool int2 int4 int8 numeric float4 float8 money text varchar bpchar bytea bit varbit date time timetz timestamp
    timestamptz interval json jsonb jsonpath uuid inet cidr macaddr macaddr8 point box circle line lseg path polygon
    tsvector tsquery int4range int8range numrange tsrange tstzrange daterange int4multirange int8multirange
    nummultirange tsmultirange tstzmultirange datemultirange"""
)

# The names that LIKE, BETWEEN and IN have for the parser are here too.
OPERATORS = _words(
    """+ - * / % ^ |/ ||/ @ & | # ~ << >> < <= = >= > <> || ~* !~ !~* ~~ ~~* !~~ !~~* -> ->> #> #>> @> <@ ? ?| ?& #- @?
    @@ && -|- &< &> <-> ^@ !! <<= >>="""
) | {"BETWEEN", "NOT BETWEEN", "BETWEEN SYMMETRIC", "NOT BETWEEN SYMMETRIC"}

SAMPLE_METHODS = _words("bernoulli system")

# CURRENT_USER, CURRENT_CATALOG and their like tell who asks and where.
CLOCKS = _words(
    """CURRENT_DATE CURRENT_TIME CURRENT_TIME_N CURRENT_TIMESTAMP CURRENT_TIMESTAMP_N LOCALTIME LOCALTIME_N
    LOCALTIMESTAMP LOCALTIMESTAMP_N"""
)

# With the values that they may have, None for none. ANALYZE runs the statement; SETTINGS tells how the server is set.
EXPLAIN_OPTIONS: dict[str, frozenset[str | None]] = {
    "costs": frozenset({None, "on", "off", "true", "false"}),
    "summary": frozenset({None, "on", "off", "true", "false"}),
    "verbose": frozenset({None, "on", "off", "true", "false"}),
    "format": frozenset({"text", "json", "yaml", "xml"}),
}
