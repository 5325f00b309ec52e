//! How does a mistake in a cluster file look on a terminal? Drawn like the compiler draws its own.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use config::{Diagnostic, Severity};

/// Draws diagnostics about the file `name` with the content `text`.
pub fn draw(text: &str, name: &str, diagnostics: &[Diagnostic], is_colored: bool) -> String {
    let renderer = if is_colored { Renderer::styled() } else { Renderer::plain() };
    diagnostics.iter().map(|diagnostic| draw_one(text, name, diagnostic, &renderer)).collect::<Vec<_>>().join("\n\n")
}

fn draw_one(text: &str, name: &str, diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(&*diagnostic.message).id(diagnostic.code);
    let mut group = match &diagnostic.span {
        Some(span) => Group::with_title(title).element(
            Snippet::source(text)
                .path(name)
                .annotation(AnnotationKind::Primary.span(span.clone()).label(&*diagnostic.label)),
        ),
        None => Group::with_title(title),
    };
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(&**help));
    }
    renderer.render(&[group])
}
