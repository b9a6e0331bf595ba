//! Declarations of all functions: names, overloads, types. Overload names matter: costs go by them.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::Type;
use crate::functions::{Function, implementation};

/// One overload: `Param(n)` in its types are its own parameters, counted from 0.
#[derive(Debug)]
pub(crate) struct Overload {
    pub id: &'static str,
    pub member: bool,
    /// The receiver first, if it is a method.
    pub args: Vec<Type>,
    pub result: Type,
    /// How many type parameters there are.
    pub params: u32,
}

/// All overloads of a name, and what runs them.
#[derive(Debug)]
pub(crate) struct Declared {
    pub name: &'static str,
    pub overloads: Vec<Overload>,
    pub run: Option<Function>,
}

/// The functions of that name.
pub(crate) fn function(name: &str) -> Option<&'static Declared> {
    static ALL: LazyLock<HashMap<&'static str, Declared>> = LazyLock::new(declare);
    ALL.get(name)
}

/// The names of types, which are values.
pub(crate) fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" | "int" | "uint" | "double" | "string" | "bytes" => read_type(name).0,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "type" => Type::Type(Type::Dyn.into()),
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        _ => Type::Opaque(OPAQUE.iter().find(|(_, full)| *full == name)?.1.into()),
    })
}

/// Short names of library types in the table below, and their names in messages.
const OPAQUE: [(&str, &str); 11] = [
    ("url", "kubernetes.URL"),
    ("quantity", "kubernetes.Quantity"),
    ("ip", "net.IP"),
    ("cidr", "net.CIDR"),
    ("format", "kubernetes.NamedFormat"),
    ("semver", "kubernetes.Semver"),
    ("authorizer", "kubernetes.authorization.Authorizer"),
    ("pathcheck", "kubernetes.authorization.PathCheck"),
    ("groupcheck", "kubernetes.authorization.GroupCheck"),
    ("rescheck", "kubernetes.authorization.ResourceCheck"),
    ("decision", "kubernetes.authorization.Decision"),
];

/// `overload [receiver:]name(types)->type`, where A and B are type parameters.
const TABLE: &str = "
conditional _?_:_(bool,A,A)->A
logical_and _&&_(bool,bool)->bool
logical_or _||_(bool,bool)->bool
logical_not !_(bool)->bool
not_strictly_false @not_strictly_false(bool)->bool
equals _==_(A,A)->bool
not_equals _!=_(A,A)->bool
add_bytes _+_(bytes,bytes)->bytes
add_double _+_(double,double)->double
add_duration_duration _+_(duration,duration)->duration
add_duration_timestamp _+_(duration,timestamp)->timestamp
add_timestamp_duration _+_(timestamp,duration)->timestamp
add_int64 _+_(int,int)->int
add_list _+_(list<A>,list<A>)->list<A>
add_string _+_(string,string)->string
add_uint64 _+_(uint,uint)->uint
subtract_double _-_(double,double)->double
subtract_duration_duration _-_(duration,duration)->duration
subtract_int64 _-_(int,int)->int
subtract_timestamp_duration _-_(timestamp,duration)->timestamp
subtract_timestamp_timestamp _-_(timestamp,timestamp)->duration
subtract_uint64 _-_(uint,uint)->uint
multiply_double _*_(double,double)->double
multiply_int64 _*_(int,int)->int
multiply_uint64 _*_(uint,uint)->uint
divide_double _/_(double,double)->double
divide_int64 _/_(int,int)->int
divide_uint64 _/_(uint,uint)->uint
modulo_int64 _%_(int,int)->int
modulo_uint64 _%_(uint,uint)->uint
negate_double -_(double)->double
negate_int64 -_(int)->int
in_list @in(A,list<A>)->bool
in_map @in(A,map<A,B>)->bool
index_list _[_](list<A>,int)->A
index_map _[_](map<A,B>,A)->B
optional_list_index_int _[_](optional<list<A>>,int)->optional<A>
optional_map_index_value _[_](optional<map<A,B>>,A)->optional<B>
list_optindex_optional_int _[?_](list<A>,int)->optional<A>
optional_list_optindex_optional_int _[?_](optional<list<A>>,int)->optional<A>
map_optindex_optional_value _[?_](map<A,B>,A)->optional<B>
optional_map_optindex_optional_value _[?_](optional<map<A,B>>,A)->optional<B>
optional_of optional.of(A)->optional<A>
optional_ofNonZeroValue optional.ofNonZeroValue(A)->optional<A>
optional_none optional.none()->optional<A>
optional_value optional<A>:value()->A
optional_hasValue optional<A>:hasValue()->bool
optional_or_optional optional<A>:or(optional<A>)->optional<A>
optional_orValue_value optional<A>:orValue(A)->A
size_bytes size(bytes)->int
size_list size(list<A>)->int
size_map size(map<A,B>)->int
size_string size(string)->int
bytes_size bytes:size()->int
list_size list<A>:size()->int
map_size map<A,B>:size()->int
string_size string:size()->int
type type(A)->type<A>
to_dyn dyn(A)->dyn
bool_to_bool bool(bool)->bool
string_to_bool bool(string)->bool
bytes_to_bytes bytes(bytes)->bytes
string_to_bytes bytes(string)->bytes
double_to_double double(double)->double
int64_to_double double(int)->double
string_to_double double(string)->double
uint64_to_double double(uint)->double
duration_to_duration duration(duration)->duration
int64_to_duration duration(int)->duration
string_to_duration duration(string)->duration
int64_to_int64 int(int)->int
double_to_int64 int(double)->int
duration_to_int64 int(duration)->int
string_to_int64 int(string)->int
timestamp_to_int64 int(timestamp)->int
uint64_to_int64 int(uint)->int
uint64_to_uint64 uint(uint)->uint
double_to_uint64 uint(double)->uint
int64_to_uint64 uint(int)->uint
string_to_uint64 uint(string)->uint
string_to_string string(string)->string
bool_to_string string(bool)->string
bytes_to_string string(bytes)->string
double_to_string string(double)->string
duration_to_string string(duration)->string
int64_to_string string(int)->string
timestamp_to_string string(timestamp)->string
uint64_to_string string(uint)->string
ip_to_string string(ip)->string
cidr_to_string string(cidr)->string
timestamp_to_timestamp timestamp(timestamp)->timestamp
int64_to_timestamp timestamp(int)->timestamp
string_to_timestamp timestamp(string)->timestamp
contains_string string:contains(string)->bool
ends_with_string string:endsWith(string)->bool
starts_with_string string:startsWith(string)->bool
matches matches(string,string)->bool
matches_string string:matches(string)->bool
string_char_at_int string:charAt(int)->string
string_index_of_string string:indexOf(string)->int
string_index_of_string_int string:indexOf(string,int)->int
string_last_index_of_string string:lastIndexOf(string)->int
string_last_index_of_string_int string:lastIndexOf(string,int)->int
string_lower_ascii string:lowerAscii()->string
string_upper_ascii string:upperAscii()->string
string_replace_string_string string:replace(string,string)->string
string_replace_string_string_int string:replace(string,string,int)->string
string_split_string string:split(string)->list<string>
string_split_string_int string:split(string,int)->list<string>
string_substring_int string:substring(int)->string
string_substring_int_int string:substring(int,int)->string
string_trim string:trim()->string
string_format string:format(list<dyn>)->string
strings_quote strings.quote(string)->string
list_join list<string>:join()->string
list_join_string list<string>:join(string)->string
list_a_sum_int list<int>:sum()->int
list_a_sum_uint list<uint>:sum()->uint
list_a_sum_double list<double>:sum()->double
list_a_sum_duration list<duration>:sum()->duration
list_a_index_of list<A>:indexOf(A)->int
list_a_last_index_of list<A>:lastIndexOf(A)->int
list_sets_contains sets.contains(list<A>,list<A>)->bool
list_sets_equivalent sets.equivalent(list<A>,list<A>)->bool
list_sets_intersects sets.intersects(list<A>,list<A>)->bool
string_find_string string:find(string)->string
string_find_all_string string:findAll(string)->list<string>
string_find_all_string_int string:findAll(string,int)->list<string>
string_to_url url(string)->url
is_url_string isURL(string)->bool
url_get_scheme url:getScheme()->string
url_get_host url:getHost()->string
url_get_hostname url:getHostname()->string
url_get_port url:getPort()->string
url_get_escaped_path url:getEscapedPath()->string
url_get_query url:getQuery()->map<string,list<string>>
string_to_quantity quantity(string)->quantity
is_quantity_string isQuantity(string)->bool
quantity_sign quantity:sign()->int
quantity_is_greater_than quantity:isGreaterThan(quantity)->bool
quantity_is_less_than quantity:isLessThan(quantity)->bool
quantity_compare_to quantity:compareTo(quantity)->int
quantity_get_float quantity:asApproximateFloat()->double
quantity_get_int quantity:asInteger()->int
quantity_is_integer quantity:isInteger()->bool
quantity_add quantity:add(quantity)->quantity
quantity_add_int quantity:add(int)->quantity
quantity_sub quantity:sub(quantity)->quantity
quantity_sub_int quantity:sub(int)->quantity
string_to_ip ip(string)->ip
is_ip isIP(string)->bool
ip_is_canonical ip.isCanonical(string)->bool
ip_family ip:family()->int
ip_is_unspecified ip:isUnspecified()->bool
ip_is_loopback ip:isLoopback()->bool
ip_is_link_local_multicast ip:isLinkLocalMulticast()->bool
ip_is_link_local_unicast ip:isLinkLocalUnicast()->bool
ip_is_global_unicast ip:isGlobalUnicast()->bool
string_to_cidr cidr(string)->cidr
is_cidr isCIDR(string)->bool
cidr_contains_ip_string cidr:containsIP(string)->bool
cidr_contains_ip_ip cidr:containsIP(ip)->bool
cidr_contains_cidr_string cidr:containsCIDR(string)->bool
cidr_contains_cidr cidr:containsCIDR(cidr)->bool
cidr_ip cidr:ip()->ip
cidr_masked cidr:masked()->cidr
cidr_prefix_length cidr:prefixLength()->int
format_named format.named(string)->optional<format>
format_dns1123label format.dns1123Label()->format
format_dns1123subdomain format.dns1123Subdomain()->format
format_dns1035label format.dns1035Label()->format
format_qualifiedname format.qualifiedName()->format
format_dns1123labelprefix format.dns1123LabelPrefix()->format
format_dns1123subdomainprefix format.dns1123SubdomainPrefix()->format
format_dns1035labelprefix format.dns1035LabelPrefix()->format
format_labelvalue format.labelValue()->format
format_uri format.uri()->format
format_uuid format.uuid()->format
format_byte format.byte()->format
format_date format.date()->format
format_datetime format.datetime()->format
format_validate format:validate(string)->optional<list<string>>
string_to_semver semver(string)->semver
string_bool_to_semver semver(string,bool)->semver
is_semver_string isSemver(string)->bool
is_semver_string_bool isSemver(string,bool)->bool
semver_is_greater_than semver:isGreaterThan(semver)->bool
semver_is_less_than semver:isLessThan(semver)->bool
semver_compare_to semver:compareTo(semver)->int
semver_major semver:major()->int
semver_minor semver:minor()->int
semver_patch semver:patch()->int
authorizer_path authorizer:path(string)->pathcheck
authorizer_group authorizer:group(string)->groupcheck
authorizer_serviceaccount authorizer:serviceAccount(string,string)->authorizer
groupcheck_resource groupcheck:resource(string)->rescheck
resourcecheck_subresource rescheck:subresource(string)->rescheck
resourcecheck_namespace rescheck:namespace(string)->rescheck
resourcecheck_name rescheck:name(string)->rescheck
resourcecheck_fieldselector rescheck:fieldSelector(string)->rescheck
resourcecheck_labelselector rescheck:labelSelector(string)->rescheck
resourcecheck_check rescheck:check(string)->decision
pathcheck_check pathcheck:check(string)->decision
decision_errored decision:errored()->bool
decision_error decision:error()->string
decision_allowed decision:allowed()->bool
decision_reason decision:reason()->string
jsonpatch_escape_key jsonpatch.escapeKey(string)->string
map_insert_entry cel.@mapInsert(map<A,B>,A,B)->map<A,B>
map_insert_map cel.@mapInsert(map<A,B>,map<A,B>)->map<A,B>
timestamp_to_year timestamp:getFullYear()->int
timestamp_to_year_with_tz timestamp:getFullYear(string)->int
timestamp_to_month timestamp:getMonth()->int
timestamp_to_month_with_tz timestamp:getMonth(string)->int
timestamp_to_day_of_year timestamp:getDayOfYear()->int
timestamp_to_day_of_year_with_tz timestamp:getDayOfYear(string)->int
timestamp_to_day_of_month timestamp:getDayOfMonth()->int
timestamp_to_day_of_month_with_tz timestamp:getDayOfMonth(string)->int
timestamp_to_day_of_month_1_based timestamp:getDate()->int
timestamp_to_day_of_month_1_based_with_tz timestamp:getDate(string)->int
timestamp_to_day_of_week timestamp:getDayOfWeek()->int
timestamp_to_day_of_week_with_tz timestamp:getDayOfWeek(string)->int
timestamp_to_hours timestamp:getHours()->int
timestamp_to_hours_with_tz timestamp:getHours(string)->int
duration_to_hours duration:getHours()->int
timestamp_to_minutes timestamp:getMinutes()->int
timestamp_to_minutes_with_tz timestamp:getMinutes(string)->int
duration_to_minutes duration:getMinutes()->int
timestamp_to_seconds timestamp:getSeconds()->int
timestamp_to_seconds_tz timestamp:getSeconds(string)->int
duration_to_seconds duration:getSeconds()->int
timestamp_to_milliseconds timestamp:getMilliseconds()->int
timestamp_to_milliseconds_with_tz timestamp:getMilliseconds(string)->int
duration_to_milliseconds duration:getMilliseconds()->int
";

/// Operand pairs of `<` and its kin, with the end of the overload's name.
const ORDERED: [(&str, &str, &str); 14] = [
    ("bool", "bool", "bool"),
    ("int64", "int", "int"),
    ("int64_double", "int", "double"),
    ("int64_uint64", "int", "uint"),
    ("uint64", "uint", "uint"),
    ("uint64_double", "uint", "double"),
    ("uint64_int64", "uint", "int"),
    ("double", "double", "double"),
    ("double_int64", "double", "int"),
    ("double_uint64", "double", "uint"),
    ("string", "string", "string"),
    ("bytes", "bytes", "bytes"),
    ("timestamp", "timestamp", "timestamp"),
    ("duration", "duration", "duration"),
];

const COMPARABLE: [&str; 8] = ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];

fn declare() -> HashMap<&'static str, Declared> {
    let mut text = TABLE.to_owned();
    for (name, function) in
        [("less", "_<_"), ("less_equals", "_<=_"), ("greater", "_>_"), ("greater_equals", "_>=_")]
    {
        for (end, a, b) in ORDERED {
            text.push_str(&format!("{name}_{end} {function}({a},{b})->bool\n"));
        }
    }
    for of in COMPARABLE {
        text.push_str(&format!("list_{of}_is_sorted list<{of}>:isSorted()->bool\n"));
        text.push_str(&format!(
            "list_{of}_min list<{of}>:min()->{of}\nlist_{of}_max list<{of}>:max()->{of}\n"
        ));
    }
    let mut all: HashMap<&'static str, Declared> = HashMap::new();
    // Declarations live as long as the program, as the table does.
    for line in Box::leak(text.into_boxed_str()).lines() {
        if let Some((name, overload)) = read_line(line) {
            let make = || Declared { name, overloads: Vec::new(), run: implementation(name) };
            all.entry(name).or_insert_with(make).overloads.push(overload);
        }
    }
    all
}

fn read_line(line: &'static str) -> Option<(&'static str, Overload)> {
    let (id, signature) = line.split_once(' ')?;
    let (call, result) = signature.rsplit_once("->")?;
    let open = call.rfind('(')?;
    let (head, list) = (&call[..open], &call[open + 1..call.len() - 1]);
    // The name of the ternary operator has a colon as well.
    let (receiver, name) = match head.split_once(':') {
        Some((receiver, name)) if head != "_?_:_" => (Some(receiver), name),
        _ => (None, head),
    };
    let mut args: Vec<Type> = receiver.into_iter().map(|t| read_type(t).0).collect();
    let mut rest = list;
    while !rest.is_empty() {
        let (of, used) = read_type(rest);
        args.push(of);
        rest = rest[used..].trim_start_matches(',');
    }
    let params = ["A", "B"].iter().filter(|p| signature.contains(**p) && has_param(&args, result, p)).count();
    let result = read_type(result).0;
    Some((name, Overload { id, member: receiver.is_some(), args, result, params: params as u32 }))
}

fn has_param(args: &[Type], result: &str, param: &str) -> bool {
    fn within(of: &Type, number: u32) -> bool {
        match of {
            Type::Param(n) => *n == number,
            Type::List(t) | Type::Optional(t) | Type::Type(t) => within(t, number),
            Type::Map(k, v) => within(k, number) || within(v, number),
            _ => false,
        }
    }
    let number = u32::from(param == "B");
    args.iter().any(|a| within(a, number)) || within(&read_type(result).0, number)
}

/// The type at the beginning of `text`, and how long its text is.
fn read_type(text: &str) -> (Type, usize) {
    let len = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let name = &text[..len];
    let inner = |from: usize| {
        let (of, used) = read_type(&text[from..]);
        (of, from + used)
    };
    match name {
        "A" => (Type::Param(0), len),
        "B" => (Type::Param(1), len),
        "dyn" => (Type::Dyn, len),
        "bool" => (Type::Bool, len),
        "int" => (Type::Int, len),
        "uint" => (Type::Uint, len),
        "double" => (Type::Double, len),
        "string" => (Type::String, len),
        "bytes" => (Type::Bytes, len),
        "timestamp" => (Type::Timestamp, len),
        "duration" => (Type::Duration, len),
        "list" | "optional" | "type" => {
            let (of, end) = inner(len + 1);
            let made = match name {
                "list" => Type::list(of),
                "optional" => Type::optional(of),
                _ => Type::Type(of.into()),
            };
            (made, end + 1)
        }
        "map" => {
            let (keys, end) = inner(len + 1);
            let (values, end) = inner(end + 1);
            (Type::map(keys, values), end + 1)
        }
        other => {
            let full = OPAQUE.iter().find(|(short, _)| *short == other).map_or(other, |(_, full)| full);
            (Type::Opaque(full.into()), len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_is_declared_with_what_runs_it() {
        assert!(function("_==_").is_some_and(|f| f.overloads.len() == 1));
        let map = &function("_[_]").unwrap().overloads[1];
        assert_eq!((map.params, map.args.len()), (2, 2));
        assert_eq!(
            function("getQuery").unwrap().overloads[0].result.to_string(),
            "map(string, list(string))"
        );
        for line in TABLE.lines().filter(|l| !l.is_empty()) {
            let (name, _) = read_line(line).unwrap();
            let special = ["_?_:_", "_&&_", "_||_", "@not_strictly_false"];
            assert!(special.contains(&name) || implementation(name).is_some(), "{name}");
        }
    }
}
