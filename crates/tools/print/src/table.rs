//! Tables with box characters, header centred and rows to the right, as etcdctl 3.7
//! prints them.

/// A table; every row has as many cells as the head.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let rule = |left: char, middle: char, right: char| {
        let parts: Vec<String> = widths.iter().map(|w| "─".repeat(w + 2)).collect();
        format!("{left}{}{right}", parts.join(&middle.to_string()))
    };
    let mut lines = vec![rule('┌', '┬', '┐')];
    let centred = head.iter().zip(&widths).map(|(cell, w)| format!(" {cell:^w$} "));
    lines.push(format!("│{}│", centred.collect::<Vec<_>>().join("│")));
    lines.push(rule('├', '┼', '┤'));
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, w)| format!(" {cell:>w$} "));
        lines.push(format!("│{}│", cells.collect::<Vec<_>>().join("│")));
    }
    lines.push(rule('└', '┴', '┘'));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn a_table_lines_up() {
        let shown = table(&["ID", "NAME"], &[vec!["8e9e05c5".into(), "a".into()]]);
        let want = "┌──────────┬──────┐\n│    ID    │ NAME │\n├──────────┼──────┤\n│ 8e9e05c5 │    a │\n└──────────┴──────┘";
        assert_eq!(shown, want);
    }
}
