use super::*;

#[track_caller]
fn check_name_overlap(one: &str, two: &str, expected: bool) {
    let (one, two) = (name(one).unwrap(), name(two).unwrap());
    assert_eq!((one.overlaps(&two), two.overlaps(&one)), (expected, expected));
}

#[track_caller]
fn check_covers(claim: &str, prefix: &str, expected: bool) {
    assert_eq!(name(claim).unwrap().covers_prefix(&Prefix::parse(prefix).unwrap()), expected);
}

fn of_host(text: &str) -> Name {
    Name::new(vec![Part::label(b"svc"), Part::Host(host(text).unwrap())])
}

#[test]
fn names_overlap_where_one_begins_the_other() {
    check_name_overlap("/svc/web", "/svc/web", true);
    check_name_overlap("/svc/web", "/svc/web/v1", true);
    check_name_overlap("/svc/web", "/svc/webshop", false);
    check_name_overlap("/svc/web", "/host/web", false);
}

#[test]
fn a_claim_covers_what_is_longer_and_never_a_wildcard_in_its_place() {
    check_covers("/host/web", "/host/web", true);
    check_covers("/host/web", "/host/web/*/v1", true);
    check_covers("/host/web", "/host", false);
    check_covers("/host/web", "/host/*", false);
    check_covers("/host/web", "/host/webshop", false);
}

#[test]
fn a_wildcard_host_is_the_names_of_all_hosts_below_it() {
    let shop = of_host("*.shop.example.com");
    let covers = |prefix: &str| shop.covers_prefix(&Prefix::parse(prefix).unwrap());
    assert!(covers("/svc/a.shop.example.com") && covers("/svc/a.b.shop.example.com/x"));
    assert!(!covers("/svc/shop.example.com") && !covers("/svc/ashop.example.com") && !covers("/svc/*"));
    for (other, expected) in [
        ("a.shop.example.com", true),
        ("shop.example.com", false),
        ("*.example.com", true),
        ("*.a.shop.example.com", true),
        ("*.example.org", false),
    ] {
        let other_name = of_host(other);
        assert_eq!((shop.overlaps(&other_name), other_name.overlaps(&shop)), (expected, expected), "{other}");
    }
    assert!(name("/svc").unwrap().overlaps(&shop) && !name("/host").unwrap().overlaps(&shop));
    assert!(shop.overlaps(&name("/svc/x.shop.example.com/y").unwrap()));
}

#[test]
fn clusters_are_owned_by_name_or_beginning() {
    let [web, all, other] = ["web-v1", "web-*", "api-*"].map(|text| cluster(text).unwrap());
    assert!(all.covers("web-v1") && all.covers("web-") && !all.covers("web") && !web.covers("web-v10"));
    assert!(all.overlaps(&web) && web.overlaps(&all) && !all.overlaps(&other));
}

#[test]
fn nobody_owns_everything_or_what_is_everybodys() {
    for text in ["/", "/#/clusters/web", "/$/inet", "/svc/*", "svc"] {
        assert!(name(text).is_err(), "{text}");
    }
    for text in ["*", "", "a b"] {
        assert!(cluster(text).is_err(), "{text}");
    }
    for text in ["*", "*.", "a:80", "*.10.0.0.1", "http://a", "a b"] {
        assert!(host(text).is_err(), "{text}");
    }
}
