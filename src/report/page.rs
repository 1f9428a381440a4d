//! A page: one HTML file with its style inside, which loads nothing and runs nothing.

use std::fmt::Write;

/// The colours and the rules for figures, which an SVG that stands alone has too.
const FIGURE_STYLE: &str = include_str!("../../assets/figure.css");
const PAGE_STYLE: &str = include_str!("../../assets/report.css");

/// A cell longer than this may wrap.
const LONG_CELL: usize = 42;

/// The text as it stands in HTML or SVG, between tags or in a quoted attribute.
///
/// Characters that XML forbids become U+FFFD: tokens come from anywhere, and one such character
/// would make an SVG file unreadable.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ if character.is_control() => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// A table whose first column names the rows.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// What it shows; above the table, if not empty.
    pub caption: String,
    /// The headings.
    pub columns: Vec<String>,
    /// The cells. A row may be shorter or longer than the headings: missing cells are empty.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Columns of the widest row.
    fn width(&self) -> usize {
        self.rows.iter().map(Vec::len).fold(self.columns.len(), usize::max)
    }

    /// The table as HTML, in a box that scrolls where the page is too narrow for it.
    pub fn html(&self) -> String {
        let width = self.width();
        let cell = |row: &[String], column: usize| escape(row.get(column).map_or("", |cell| cell));
        let mut html = String::from("<figure>");
        // Writing to a string cannot fail.
        if !self.caption.is_empty() {
            let _ = write!(html, "<figcaption>{}</figcaption>", escape(&self.caption));
        }
        // Focusable, so that it can be scrolled with the keyboard.
        let name = if self.caption.is_empty() { "Table" } else { &self.caption };
        let _ = write!(
            html,
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table>",
            escape(name)
        );
        if !self.columns.is_empty() {
            html.push_str("<thead><tr>");
            for column in 0..width {
                let _ = write!(html, "<th scope=\"col\">{}</th>", cell(&self.columns, column));
            }
            html.push_str("</tr></thead>");
        }
        html.push_str("<tbody>");
        for row in &self.rows {
            html.push_str("\n<tr>");
            for column in 0..width {
                let text = cell(row, column);
                let _ = if column == 0 {
                    write!(html, "<th scope=\"row\">{text}</th>")
                } else if row.get(column).is_some_and(|cell| cell.chars().count() > LONG_CELL) {
                    write!(html, "<td class=\"long\">{text}</td>")
                } else {
                    write!(html, "<td>{text}</td>")
                };
            }
            html.push_str("</tr>");
        }
        html.push_str("</tbody></table></div></figure>\n");
        html
    }

    /// The table as aligned text that is also Markdown, below its caption.
    pub fn text(&self) -> String {
        let width = self.width();
        let line = |row: &[String]| -> Vec<String> {
            (0..width)
                .map(|column| {
                    let cell = row.get(column).map_or("", |cell| cell);
                    let words: Vec<&str> = cell.split_whitespace().collect();
                    words.join(" ").replace('|', "\\|")
                })
                .collect()
        };
        let mut lines = vec![line(&self.columns)];
        lines.extend(self.rows.iter().map(|row| line(row)));
        let widths: Vec<usize> = (0..width)
            .map(|column| lines.iter().map(|row| row[column].chars().count()).fold(3, usize::max))
            .collect();
        let mut text = String::new();
        if !self.caption.is_empty() {
            let _ = write!(text, "{}\n\n", self.caption);
        }
        for (number, row) in lines.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = if column == 0 {
                    write!(text, "| {cell:<width$} |")
                } else {
                    write!(text, " {cell:>width$} |")
                };
            }
            text.push('\n');
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let rule = "-".repeat(width - 1);
                    let _ = if column == 0 {
                        write!(text, "| :{rule} |")
                    } else {
                        write!(text, " {rule}: |")
                    };
                }
                text.push('\n');
            }
        }
        text
    }
}

/// A page in the making: what is added appears in that order.
#[derive(Debug, Clone)]
pub struct Page {
    title: String,
    subtitle: String,
    body: String,
    /// How many folds this is inside of; headings there are smaller.
    depth: usize,
}

impl Page {
    /// An empty page; without a subtitle if that is empty.
    pub fn new(title: impl Into<String>, subtitle: impl Into<String>) -> Self {
        Self { title: title.into(), subtitle: subtitle.into(), body: String::new(), depth: 0 }
    }

    /// A heading: what follows is its section, up to the next one.
    pub fn section(&mut self, heading: &str) -> &mut Self {
        let level = (2 + self.depth).min(4);
        self.put(format_args!("<h{level}>{}</h{level}>\n", escape(heading)))
    }

    /// A paragraph of plain text.
    pub fn text(&mut self, paragraph: &str) -> &mut Self {
        self.put(format_args!("<p>{}</p>\n", escape(paragraph)))
    }

    /// The sentence that a reader in a hurry should read.
    pub fn verdict(&mut self, sentence: &str) -> &mut Self {
        self.put(format_args!("<p class=\"verdict\" role=\"note\">{}</p>\n", escape(sentence)))
    }

    /// A table.
    pub fn table(&mut self, table: &Table) -> &mut Self {
        self.body.push_str(&table.html());
        self
    }

    /// A figure: the SVG as it is, from [`super::chart`] or [`super::attention_map`], over its
    /// caption.
    pub fn figure(&mut self, svg: &str, caption: &str) -> &mut Self {
        let caption = caption_html(caption);
        self.put(format_args!("<figure><div class=\"scroll\">{svg}</div>{caption}</figure>\n"))
    }

    /// Small figures side by side, as many in a row as there is room for.
    pub fn figures<S: AsRef<str>, C: AsRef<str>>(&mut self, figures: &[(S, C)]) -> &mut Self {
        if figures.is_empty() {
            return self;
        }
        // Thumbnails need little room; a chart's letters would become too small in as little.
        let small = figures.iter().all(|(svg, _)| svg.as_ref().contains("class=\"fig thumb\""));
        self.body.push_str(if small {
            "<div class=\"grid thumbs\">"
        } else {
            "<div class=\"grid\">"
        });
        for (svg, caption) in figures {
            let caption = caption_html(caption.as_ref());
            self.put(format_args!("\n<figure>{}{caption}</figure>", svg.as_ref()));
        }
        self.body.push_str("</div>\n");
        self
    }

    /// Names and their values, as of settings and fingerprints.
    pub fn pairs(&mut self, pairs: &[(String, String)]) -> &mut Self {
        if pairs.is_empty() {
            return self;
        }
        self.body.push_str("<dl>");
        for (name, value) in pairs {
            self.put(format_args!("\n<dt>{}</dt><dd>{}</dd>", escape(name), escape(value)));
        }
        self.body.push_str("</dl>\n");
        self
    }

    /// What `inner` adds, folded away under a summary that opens it. On paper it is open.
    pub fn fold(&mut self, summary: &str, inner: impl FnOnce(&mut Page)) -> &mut Self {
        let mut page = Page { depth: self.depth + 1, ..Page::new("", "") };
        inner(&mut page);
        self.put(format_args!(
            "<details><summary>{}</summary><div class=\"folded\">\n{}</div></details>\n",
            escape(summary),
            page.body
        ))
    }

    /// The whole document.
    pub fn finish(self) -> String {
        let title = escape(&self.title);
        let subtitle = if self.subtitle.is_empty() {
            String::new()
        } else {
            format!("<p class=\"subtitle\">{}</p>", escape(&self.subtitle))
        };
        // With an icon of its own, though empty, browsers do not ask a server for one.
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
             <style>\n{FIGURE_STYLE}{PAGE_STYLE}</style>\n</head>\n<body>\n<main>\n\
             <header><h1>{title}</h1>{subtitle}</header>\n{}</main>\n</body>\n</html>\n",
            self.body
        )
    }

    fn put(&mut self, html: std::fmt::Arguments<'_>) -> &mut Self {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(html);
        self
    }
}

fn caption_html(caption: &str) -> String {
    if caption.is_empty() {
        return String::new();
    }
    format!("<figcaption>{}</figcaption>", escape(caption))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Fails unless every tag is closed in order, every attribute quoted, every `&` an entity, and
    /// nothing is loaded or run.
    pub fn check(markup: &str) {
        let lower = markup.to_lowercase();
        let links = lower.matches("http").count();
        let names = lower.matches("xmlns=\"http://www.w3.org/2000/svg\"").count();
        assert_eq!(links, names, "a link");
        assert!(
            !lower.contains("<script") && !lower.contains("@import") && !lower.contains("url(")
        );
        let mut open: Vec<&str> = Vec::new();
        let mut rest = markup;
        while let Some(start) = rest.find('<') {
            text(&rest[..start]);
            let end = start + rest[start..].find('>').expect("an unfinished tag");
            let tag = &rest[start + 1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "closed out of order");
                continue;
            }
            let name = tag.split([' ', '/']).next().unwrap_or_default();
            assert!(tag.matches('"').count().is_multiple_of(2) && !tag.contains('<'), "{tag}");
            for (number, part) in tag.split('"').enumerate() {
                // Outside of quotes every value is announced by `="`.
                if number % 2 == 1 {
                    text(part);
                } else {
                    assert!(part.matches('=').count() <= 1, "{tag}");
                }
            }
            let void = ["meta", "link", "!DOCTYPE"].contains(&name) || tag.ends_with('/');
            if !void {
                open.push(name);
            }
            if name == "style" {
                rest = &rest[rest.find("</style>").expect("an open style")..];
            }
        }
        text(rest);
        assert_eq!(open, [""; 0], "left open");
    }

    fn text(text: &str) {
        let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        for (at, _) in text.match_indices('&') {
            assert!(known.iter().any(|entity| text[at..].starts_with(entity)), "{text}");
        }
        let printable = |c: char| !c.is_control() || c == '\n' || c == '\t';
        assert!(!text.contains('>') && text.chars().all(printable), "{text}");
    }

    const NASTY: &str = "<script src=\"x\">&'\u{0}\u{ffff}</title>";

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(escape("a<b> & \"c\" 'd'"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
        assert_eq!(escape("a\u{0}b\u{1b}\n\u{ffff}é"), "a\u{fffd}b\u{fffd}\n\u{fffd}é");
        check(&escape(NASTY));
    }

    #[test]
    fn a_table_is_html_and_markdown() {
        let table = Table {
            caption: "Accuracy".into(),
            columns: vec!["run".into(), "dev".into()],
            rows: vec![vec!["dense".into(), "0.91".into()], vec!["a|b\nc".into(), "1".into()]],
        };
        let expected = "Accuracy\n\n| run    |  dev |\n| :----- | ---: |\n| dense  | 0.91 |\n\
                        | a\\|b c |    1 |\n";
        assert_eq!(table.text(), expected);
        let html = table.html();
        check(&html);
        assert!(html.contains("<th scope=\"row\">dense</th><td>0.91</td>"));
        assert!(html.contains("<th scope=\"col\">run</th>"));
    }

    #[test]
    fn a_ragged_or_empty_table_is_a_table() {
        let mut table = Table::default();
        check(&table.html());
        assert_eq!(table.text(), "\n\n");
        table.rows = vec![vec![], vec![NASTY.into(), NASTY.into(), "x".repeat(500)]];
        check(&table.html());
        assert_eq!(table.html().matches("<td").count(), 4);
        let bars: Vec<usize> = table.text().lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(bars, [4; 4]);
    }

    #[test]
    fn a_page_holds_what_was_added_in_order_and_nothing_runs() {
        let mut page = Page::new(NASTY, NASTY);
        page.verdict(NASTY).section("One").text(NASTY).table(&Table {
            caption: NASTY.into(),
            columns: vec![NASTY.into()],
            rows: vec![vec![NASTY.into()]],
        });
        page.figure("<svg class=\"fig\"></svg>", NASTY);
        page.figures(&[("<svg class=\"fig thumb\"></svg>", NASTY)]);
        page.figures(&[("<svg class=\"fig\"></svg>".to_string(), String::new())]);
        page.figures::<&str, &str>(&[]).pairs(&[]);
        page.pairs(&[("seed".into(), NASTY.into())]);
        page.fold("More", |page| {
            page.section("Two").fold("Still more", |page| {
                page.section("Three").text("the end");
            });
        });
        let html = page.finish();
        check(&html);
        let places: Vec<_> = [
            "<!DOCTYPE html>\n<html lang=\"en\">",
            "charset=\"utf-8\"",
            "name=\"viewport\"",
            "prefers-color-scheme: dark",
            "@media print",
            "class=\"verdict\"",
            "<h2>One</h2>",
            "<table>",
            "class=\"grid thumbs\"",
            "class=\"grid\"",
            "<dl>",
            "<details>",
            "<h3>Two</h3>",
            "<h4>Three</h4>",
            "the end",
        ]
        .iter()
        .map(|part| html.find(part).unwrap_or_else(|| panic!("no {part}")))
        .collect();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn a_page_without_a_subtitle_has_no_empty_line() {
        assert!(!Page::new("Run", "").finish().contains("class=\"subtitle\""));
    }
}
