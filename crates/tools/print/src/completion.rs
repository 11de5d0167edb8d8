//! Completion scripts for shells, made from the table of commands.
//!
//! They know the commands, the words within a group, and each command's flags; for
//! everything else they offer files.

use std::fmt::Write as _;

use crate::args::{Command, Program};

/// A shell that scripts are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
    /// PowerShell.
    PowerShell,
}

/// The script that a shell reads to complete the program's command lines.
pub fn script(program: &Program, shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(program),
        Shell::Zsh => format!(
            "#compdef {0}\nautoload -U +X bashcompinit && bashcompinit\n{1}",
            program.name,
            bash(program)
        ),
        Shell::Fish => fish(program),
        Shell::PowerShell => powershell(program),
    }
}

/// First words, each once, in the order of the table.
fn first_words(program: &Program) -> Vec<&'static str> {
    let mut words: Vec<&'static str> = Vec::new();
    for command in program.commands {
        let first = command.name.split(' ').next().unwrap_or_default();
        if !words.contains(&first) {
            words.push(first);
        }
    }
    words
}

fn second_words(program: &Program, group: &str) -> Vec<&'static str> {
    let of_group = |c: &&Command| c.name.split(' ').next() == Some(group);
    program.commands.iter().filter(of_group).filter_map(|c| c.name.split(' ').nth(1)).collect()
}

fn flags(program: &Program, command: &Command) -> Vec<String> {
    command.flags.iter().chain(program.global).map(|f| format!("--{}", f.name)).collect()
}

fn bash(program: &Program) -> String {
    let function = format!("_{}", program.name.replace('-', "_"));
    let mut out = format!("# completion of {}\n{function}() {{\n", program.name);
    out.push_str(
        "  local word=\"${COMP_WORDS[COMP_CWORD]}\" first=\"\" second=\"\" offer=\"\" w\n",
    );
    out.push_str("  for w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n");
    out.push_str("    case \"$w\" in -*) ;; *) if [ -z \"$first\" ]; then first=\"$w\"; elif [ -z \"$second\" ]; then second=\"$w\"; fi ;; esac\n  done\n");
    out.push_str("  case \"$first $second\" in\n");
    // Writing to a String cannot fail.
    let _ = writeln!(out, "    \" \") offer=\"{}\" ;;", first_words(program).join(" "));
    for command in program.commands {
        let mut words = command.name.splitn(2, ' ');
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        let pattern = match second {
            Some(second) => format!("\"{first} {second}\""),
            None => format!("\"{first} \"*"),
        };
        let _ = writeln!(out, "    {pattern}) offer=\"{}\" ;;", flags(program, command).join(" "));
    }
    for group in program.groups {
        let words = second_words(program, group.name).join(" ");
        let _ = writeln!(out, "    \"{} \"*) offer=\"{words}\" ;;", group.name);
    }
    out.push_str("  esac\n");
    out.push_str("  COMPREPLY=($(compgen -W \"$offer\" -- \"$word\"))\n}\n");
    let _ = writeln!(out, "complete -o default -F {function} {}", program.name);
    out
}

/// For a script's single quotes, where `'` is written `doubled`.
fn quoted(text: &str, doubled: &str) -> String {
    text.replace('\'', doubled)
}

fn fish(program: &Program) -> String {
    let name = program.name;
    let mut out = format!("# completion of {name}\n");
    for word in first_words(program) {
        let own = program.commands.iter().find(|c| c.name == word);
        let help = own.map_or("a group of commands", |c| c.help);
        let _ = writeln!(
            out,
            "complete -c {name} -n __fish_use_subcommand -f -a {word} -d '{}'",
            quoted(help, "\\'")
        );
    }
    for command in program.commands {
        let (first, second) = command.name.split_once(' ').unwrap_or((command.name, ""));
        let mut seen = format!("__fish_seen_subcommand_from {first}");
        if !second.is_empty() {
            let help = quoted(command.help, "\\'");
            let _ = writeln!(out, "complete -c {name} -n '{seen}' -f -a {second} -d '{help}'");
            let _ = write!(seen, "; and __fish_seen_subcommand_from {second}");
        }
        for flag in command.flags {
            let help = quoted(flag.help, "\\'");
            let _ = writeln!(out, "complete -c {name} -n '{seen}' -l {} -d '{help}'", flag.name);
        }
    }
    for flag in program.global {
        let short = flag.short.map(|c| format!(" -s {c}")).unwrap_or_default();
        let help = quoted(flag.help, "\\'");
        let _ = writeln!(out, "complete -c {name} -l {}{short} -d '{help}'", flag.name);
    }
    out
}

fn powershell(program: &Program) -> String {
    let name = program.name;
    let list = |words: &[String]| {
        let quoted: Vec<String> = words.iter().map(|w| format!("'{}'", quoted(w, "''"))).collect();
        format!("@({})", quoted.join(", "))
    };
    let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let mut out = format!("# completion of {name}\n");
    let _ =
        writeln!(out, "Register-ArgumentCompleter -Native -CommandName '{name}' -ScriptBlock {{");
    out.push_str("  param($word, $line, $position)\n");
    out.push_str("  $words = @($line.CommandElements | Select-Object -Skip 1 | ForEach-Object { \"$_\" } | Where-Object { $_ -notlike '-*' -and $_ -ne $word })\n");
    let _ = writeln!(out, "  $offer = {}", list(&owned(first_words(program))));
    out.push_str("  switch -Regex ($words -join ' ') {\n");
    for group in program.groups {
        let words = list(&owned(second_words(program, group.name)));
        let _ = writeln!(out, "    '^{}$' {{ $offer = {words}; break }}", group.name);
    }
    for command in program.commands {
        let words = list(&flags(program, command));
        let _ = writeln!(out, "    '^{}( |$)' {{ $offer = {words}; break }}", command.name);
    }
    out.push_str("  }\n  $offer | Where-Object { $_ -like \"$word*\" } | ForEach-Object {\n");
    out.push_str("    [System.Management.Automation.CompletionResult]::new($_)\n  }\n}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Flag;

    const TABLE: &Program = &Program {
        name: "tool",
        about: "a tool",
        commands: &[
            Command::new("mend", "", "it's mended", &[Flag::text("dir", "", "where")]),
            Command::new("look at", "", "look", &[]),
            Command::new("help", "", "help", &[]),
        ],
        groups: &[Command::group("look")],
        global: &[Flag::text("write-out", "simple", "form").letter('w')],
    };

    #[test]
    fn every_shell_gets_every_command_and_flag() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell] {
            let text = script(TABLE, shell);
            for word in ["tool", "mend", "look", "at", "dir", "write-out"] {
                assert!(text.contains(word), "{shell:?} does not know {word}");
            }
        }
    }

    #[test]
    fn bash_takes_the_script_and_completes() {
        let run = |words: &str, at: usize| {
            let script = format!(
                "{}\nCOMP_WORDS=({words}); COMP_CWORD={at}; _tool; echo \"${{COMPREPLY[*]}}\"",
                script(TABLE, Shell::Bash)
            );
            let out = std::process::Command::new("bash").arg("-c").arg(script).output();
            String::from_utf8(out.expect("bash runs").stdout).expect("text")
        };
        assert_eq!(run("tool m", 1), "mend\n");
        assert_eq!(run("tool look ''", 2), "at\n");
        assert_eq!(run("tool mend --d", 2), "--dir\n");
        assert_eq!(run("tool look at --w", 3), "--write-out\n");
    }
}
