//! Rust source with its comments, or also its strings, blanked out: what the checks may search without being fooled.

/// What to blank.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blank {
    /// Comments, and `'"'` with its kind: string literals can still be read, and every quote opens or closes one.
    Comments,
    /// Strings too.
    CommentsAndStrings,
}

/// The same text, same length in lines, with the named parts replaced by blanks.
pub(crate) fn blanked(text: &str, what: Blank) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (len, blank) = token(rest, first, out.chars().next_back());
        let piece = &rest[..len];
        let hide = match blank {
            Kind::Comment | Kind::Char => true,
            Kind::String => what == Blank::CommentsAndStrings,
            Kind::Code => false,
        };
        if hide {
            out.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        } else {
            out.push_str(piece);
        }
        rest = &rest[len..];
    }
    out
}

#[derive(Clone, Copy)]
enum Kind {
    Comment,
    Char,
    String,
    Code,
}

/// The length in bytes and the kind of what the text begins with.
fn token(rest: &str, first: char, before: Option<char>) -> (usize, Kind) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Kind::Comment);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), Kind::Comment);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word && let Some(len) = raw_string(rest) {
        return (len, Kind::String);
    }
    match first {
        '"' => (quoted(rest, '"'), Kind::String),
        '\'' => match char_literal(rest) {
            Some(len) => (len, Kind::Char),
            None => (1, Kind::Code), // a lifetime
        },
        _ => (first.len_utf8(), Kind::Code),
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let inner = body[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = inner.find(&close).map_or(inner.len(), |end| end + close.len());
    Some(rest.len() - inner.len() + end)
}

/// A literal that starts with `quote`, to its unescaped end.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if !escaped && c == quote {
            return at + c.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    rest.len()
}

fn char_literal(rest: &str) -> Option<usize> {
    let mut chars = rest.chars().skip(1);
    let first = chars.next()?;
    if first == '\\' {
        return Some(quoted(rest, '\''));
    }
    (chars.next()? == '\'').then(|| first.len_utf8() + 2)
}

/// Whether the text has `word` standing by itself.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(is_part)
            && !text[at + word.len()..].chars().next().is_some_and(is_part)
    })
}

/// Where a function of this name is declared, if it is. The text must be blanked.
pub(crate) fn function_at(code: &str, name: &str) -> Option<usize> {
    functions(code).find(|(_, found)| *found == name).map(|(at, _)| at)
}

/// Every `fn name` with its place. The text must be blanked.
pub(crate) fn functions(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.match_indices("fn ").filter_map(|(at, _)| {
        let before = code[..at].chars().next_back();
        let name = code[at + 3..].trim_start();
        let len = name.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(name.len());
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        (starts && len > 0).then(|| (at, &name[..len]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_strings_stay_or_go() {
        let text = "let a = \"// not \\\" one\"; // one\n/* two /* nested */\n */ b('\"', '\\'', 'x'); r#\"raw \" // \"#;";
        let code = blanked(text, Blank::Comments);
        assert!(code.contains("// not") && !code.contains("// one") && !code.contains("nested"));
        assert!(code.contains("raw \" //") && !code.contains("'x'"));
        let bare = blanked(text, Blank::CommentsAndStrings);
        assert!(!bare.contains("not") && !bare.contains("raw") && bare.contains("b("));
        assert_eq!(bare.lines().count(), text.lines().count());
    }

    #[test]
    fn a_lifetime_is_not_a_char() {
        let code = blanked("fn f<'a>(x: &'a str) -> &'a str { \"s\" }", Blank::CommentsAndStrings);
        assert_eq!(code, "fn f<'a>(x: &'a str) -> &'a str {     }");
    }

    #[test]
    fn words_and_functions_are_whole() {
        assert!(has_word("a ring b", "ring") && !has_word("string", "ring") && !has_word("ring_a", "ring"));
        let code = "async fn one() {} fn two<T>() {} other_fn three";
        assert_eq!(functions(code).map(|(_, name)| name).collect::<Vec<_>>(), ["one", "two"]);
        assert!(function_at(code, "two").is_some() && function_at(code, "tw").is_none());
    }
}
