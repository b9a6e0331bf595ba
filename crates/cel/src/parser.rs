//! Recursive descent over the tokens, with errors in the words of the generated parser of cel-go.

use smol_str::SmolStr;

use crate::ast::{Call, Entry, Expr, FieldInit, Id, Item, Kind, Literal, Select, op};
use crate::lexer::{Lexed, Token, lex};
use crate::macros;
use crate::reserved;
use crate::source::Issue;

/// Longest expression, in characters (`ExpressionSizeCodePointLimit`).
const MAX_SOURCE: usize = 100_000;
/// Deepest nesting; upstream's limit is 250, ours fits the stack of any thread.
const MAX_DEPTH: u16 = 120;

const STARTS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, \
                      STRING, BYTES, IDENTIFIER}";

/// A tree with the place of each of its nodes, in characters.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub root: Expr,
    pub offsets: Vec<usize>,
}

/// What stops a parse; the issue is recorded already.
pub(crate) struct Stop;

type Parse<T> = Result<T, Stop>;

/// Parses `source` and expands macros.
pub(crate) fn parse(source: &[char]) -> Result<Parsed, Vec<Issue>> {
    if source.len() > MAX_SOURCE {
        let message =
            format!("expression code point size exceeds limit: size: {}, limit {MAX_SOURCE}", source.len());
        return Err(vec![Issue { offset: None, message }]);
    }
    let (tokens, issues) = lex(source);
    let mut parser = Parser { source, tokens, at: 0, nesting: 0, offsets: Vec::new(), issues };
    let root = parser.start();
    parser.issues.sort_by_key(|issue| issue.offset);
    match root {
        Ok(root) if parser.issues.is_empty() => Ok(Parsed { root, offsets: parser.offsets }),
        _ => Err(parser.issues),
    }
}

pub(crate) struct Parser<'a> {
    source: &'a [char],
    tokens: Vec<Lexed>,
    at: usize,
    nesting: u16,
    offsets: Vec<usize>,
    issues: Vec<Issue>,
}

impl Parser<'_> {
    fn token(&self) -> &Token {
        &self.tokens[self.at].token
    }

    fn next_token(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].token
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.token(), Token::Symbol(s) if *s == symbol)
    }

    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn offset(&self) -> usize {
        self.tokens[self.at].start
    }

    /// Takes `symbol` if it comes next; gives where it is.
    fn take(&mut self, symbol: &str) -> Option<usize> {
        let at = self.offset();
        self.is(symbol).then(|| {
            self.advance();
            at
        })
    }

    fn shown(&self, at: usize) -> String {
        match &self.tokens[at] {
            Lexed { token: Token::End, .. } => "<EOF>".to_owned(),
            token => self.source[token.start..token.end].iter().collect(),
        }
    }

    /// Records an issue at an offset.
    pub(crate) fn report(&mut self, offset: usize, message: impl Into<String>) {
        self.issues.push(Issue { offset: Some(offset), message: message.into() });
    }

    fn syntax(&mut self, words: String) {
        let offset = self.offset();
        self.report(offset, format!("Syntax error: {words}"));
    }

    /// An unexpected token: it is dropped when what follows it would fit, else parsing stops.
    fn unexpected(&mut self, expecting: &str, fits: impl Fn(&Token) -> bool) -> Parse<()> {
        let shown = self.shown(self.at);
        if !matches!(self.token(), Token::End) && fits(self.next_token()) {
            self.syntax(format!("extraneous input '{shown}' expecting {expecting}"));
            self.advance();
            return Ok(());
        }
        self.syntax(format!("mismatched input '{shown}' expecting {expecting}"));
        Err(Stop)
    }

    /// Takes a closing symbol, which may be missing where something that follows expressions stands.
    fn close(&mut self, symbol: &'static str) -> Parse<()> {
        if self.take(symbol).is_some() {
            return Ok(());
        }
        let closes = |t: &Token| matches!(t, Token::Symbol(s) if *s == symbol);
        let shown = self.shown(self.at);
        if !matches!(self.token(), Token::End) && closes(self.next_token()) {
            self.syntax(format!("extraneous input '{shown}' expecting '{symbol}'"));
            self.advance();
            self.advance();
            return Ok(());
        }
        let follows = match self.token() {
            Token::End => true,
            Token::Symbol(s) => !matches!(*s, "!"),
            _ => false,
        };
        match follows {
            true => self.syntax(format!("missing '{symbol}' at '{shown}'")),
            false => self.syntax(format!("mismatched input '{shown}' expecting '{symbol}'")),
        }
        Err(Stop)
    }

    fn start(&mut self) -> Parse<Expr> {
        let expr = self.expr()?;
        if !matches!(self.token(), Token::End) {
            self.unexpected("<EOF>", |t| matches!(t, Token::End))?;
        }
        Ok(expr)
    }

    /// A new node's name.
    pub(crate) fn id(&mut self, offset: usize) -> Id {
        self.offsets.push(offset);
        (self.offsets.len() - 1) as Id
    }

    /// Where a node is.
    pub(crate) fn offset_of(&self, id: Id) -> usize {
        self.offsets[id as usize]
    }

    /// A node whose depth is that of its children and one more.
    pub(crate) fn node(&mut self, offset: usize, kind: Kind) -> Parse<Expr> {
        let mut deepest = 0;
        let mut see = |e: &Expr| deepest = deepest.max(e.depth);
        match &kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select(select) => see(&select.operand),
            Kind::Call(call) => call.target.iter().chain(&call.args).for_each(see),
            Kind::List(items) => items.iter().for_each(|i| see(&i.value)),
            Kind::Map(entries) => entries.iter().for_each(|e| {
                see(&e.key);
                see(&e.value);
            }),
            Kind::Struct(_, fields) => fields.iter().for_each(|f| see(&f.value)),
            Kind::Fold(fold) => {
                [&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result]
                    .into_iter()
                    .for_each(see);
            }
        }
        if deepest >= MAX_DEPTH {
            return self.too_deep();
        }
        let id = self.id(offset);
        Ok(Expr { id, depth: deepest + 1, kind })
    }

    fn too_deep<T>(&mut self) -> Parse<T> {
        self.issues.push(Issue {
            offset: None,
            message: format!("expression recursion limit exceeded: {MAX_DEPTH}"),
        });
        Err(Stop)
    }

    /// A call in the style of a function.
    pub(crate) fn call(&mut self, offset: usize, function: &str, args: Vec<Expr>) -> Parse<Expr> {
        let call = Call { function: function.into(), target: None, args };
        self.node(offset, Kind::Call(Box::new(call)))
    }

    fn expr(&mut self) -> Parse<Expr> {
        if self.nesting >= MAX_DEPTH {
            return self.too_deep();
        }
        self.nesting += 1;
        let condition = self.or()?;
        let result = match self.take("?") {
            None => Ok(condition),
            Some(offset) => {
                let then = self.or()?;
                self.close(":")?;
                let otherwise = self.expr()?;
                self.call(offset, op::CONDITIONAL, vec![condition, then, otherwise])
            }
        };
        self.nesting -= 1;
        result
    }

    fn or(&mut self) -> Parse<Expr> {
        let mut terms = vec![self.and()?];
        let mut ops = Vec::new();
        while let Some(offset) = self.take("||") {
            ops.push(offset);
            terms.push(self.and()?);
        }
        self.balance(op::OR, terms, &ops)
    }

    fn and(&mut self) -> Parse<Expr> {
        let mut terms = vec![self.relation()?];
        let mut ops = Vec::new();
        while let Some(offset) = self.take("&&") {
            ops.push(offset);
            terms.push(self.relation()?);
        }
        self.balance(op::AND, terms, &ops)
    }

    /// A chain of one operator as a balanced tree.
    fn balance(&mut self, function: &str, mut terms: Vec<Expr>, ops: &[usize]) -> Parse<Expr> {
        if ops.is_empty() {
            return terms.pop().ok_or(Stop);
        }
        let middle = ops.len() / 2;
        let right = terms.split_off(middle + 1);
        let left = self.balance(function, terms, &ops[..middle])?;
        let right = self.balance(function, right, &ops[middle + 1..])?;
        self.call(ops[middle], function, vec![left, right])
    }

    fn relation(&mut self) -> Parse<Expr> {
        let mut left = self.sum()?;
        loop {
            let function = match self.token() {
                Token::Symbol("<") => op::LESS,
                Token::Symbol("<=") => op::LESS_EQUALS,
                Token::Symbol(">") => op::GREATER,
                Token::Symbol(">=") => op::GREATER_EQUALS,
                Token::Symbol("==") => op::EQUALS,
                Token::Symbol("!=") => op::NOT_EQUALS,
                Token::Symbol("in") => op::IN,
                _ => return Ok(left),
            };
            let offset = self.offset();
            self.advance();
            let right = self.sum()?;
            left = self.call(offset, function, vec![left, right])?;
        }
    }

    fn sum(&mut self) -> Parse<Expr> {
        let mut left = self.product()?;
        loop {
            let function = match self.token() {
                Token::Symbol("+") => op::ADD,
                Token::Symbol("-") => op::SUBTRACT,
                _ => return Ok(left),
            };
            let offset = self.offset();
            self.advance();
            let right = self.product()?;
            left = self.call(offset, function, vec![left, right])?;
        }
    }

    fn product(&mut self) -> Parse<Expr> {
        let mut left = self.unary()?;
        loop {
            let function = match self.token() {
                Token::Symbol("*") => op::MULTIPLY,
                Token::Symbol("/") => op::DIVIDE,
                Token::Symbol("%") => op::MODULO,
                _ => return Ok(left),
            };
            let offset = self.offset();
            self.advance();
            let right = self.unary()?;
            left = self.call(offset, function, vec![left, right])?;
        }
    }

    fn unary(&mut self) -> Parse<Expr> {
        for (symbol, function) in [("!", op::NOT), ("-", op::NEGATE)] {
            if !self.is(symbol) {
                continue;
            }
            let number =
                |t: &Token| matches!(t, Token::Literal(Literal::Int(_) | Literal::Double(_)) | Token::Bad(_));
            if symbol == "-" && number(self.next_token()) {
                return self.member();
            }
            let (offset, mut count) = (self.offset(), 0);
            while self.take(symbol).is_some() {
                count += 1;
            }
            let operand = self.member()?;
            return if count % 2 == 0 { Ok(operand) } else { self.call(offset, function, vec![operand]) };
        }
        self.member()
    }

    fn member(&mut self) -> Parse<Expr> {
        let mut left = self.primary()?;
        loop {
            if let Some(dot) = self.take(".") {
                left = self.after_dot(left, dot)?;
            } else if let Some(offset) = self.take("[") {
                let optional = self.take("?").is_some();
                let index = self.expr()?;
                self.close("]")?;
                let function = if optional { op::OPT_INDEX } else { op::INDEX };
                left = self.call(offset, function, vec![left, index])?;
            } else if self.is("{") && left.qualified_name().is_some() {
                let offset = self.offset();
                self.advance();
                let name = left.qualified_name().unwrap_or_default();
                let fields = self.field_inits()?;
                left = self.node(offset, Kind::Struct(name.into(), fields))?;
            } else {
                return Ok(left);
            }
        }
    }

    fn after_dot(&mut self, left: Expr, dot: usize) -> Parse<Expr> {
        let optional = self.take("?").is_some();
        let (name, quoted) = match self.token().clone() {
            Token::Ident(name) => (name, false),
            Token::Quoted(name) => (name, true),
            Token::Symbol("in") => (SmolStr::new_static("in"), true),
            _ => {
                let text: String = self.source[dot..self.tokens[self.at].end].iter().collect();
                let shown = if matches!(self.token(), Token::End) { format!("{text}<EOF>") } else { text };
                self.syntax(format!("no viable alternative at input '{shown}'"));
                return Err(Stop);
            }
        };
        self.advance();
        if optional {
            let field = self.node(dot, Kind::Literal(Literal::String(name)))?;
            return self.call(dot, op::OPT_SELECT, vec![left, field]);
        }
        if !quoted && let Some(open) = self.take("(") {
            let args = self.args()?;
            return macros::member(self, open, name, left, args);
        }
        self.node(dot, Kind::Select(Box::new(Select { operand: left, field: name, test: false })))
    }

    fn args(&mut self) -> Parse<Vec<Expr>> {
        let mut args = Vec::new();
        if self.take(")").is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.take(",").is_none() {
                self.close(")")?;
                return Ok(args);
            }
        }
    }

    fn field_inits(&mut self) -> Parse<Vec<FieldInit>> {
        let mut fields = Vec::new();
        while self.take("}").is_none() {
            let optional = self.take("?").is_some();
            let name = match self.token().clone() {
                Token::Ident(name) | Token::Quoted(name) => name,
                _ => {
                    self.unexpected("{'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}", |_| false)?;
                    return Err(Stop);
                }
            };
            self.advance();
            let id = {
                let offset = self.offset();
                self.close(":")?;
                self.id(offset)
            };
            let value = self.expr()?;
            fields.push(FieldInit { id, name, value, optional });
            if self.take(",").is_none() {
                self.close("}")?;
                break;
            }
        }
        Ok(fields)
    }

    fn primary(&mut self) -> Parse<Expr> {
        let offset = self.offset();
        match self.token().clone() {
            Token::Ident(name) => {
                self.advance();
                self.ident(offset, name)
            }
            Token::Literal(literal) => {
                self.advance();
                self.node(offset, Kind::Literal(literal))
            }
            Token::Bad(words) => {
                self.advance();
                self.report(offset, words);
                self.node(offset, Kind::Literal(Literal::Null))
            }
            Token::Symbol("-") => {
                self.advance();
                let negated = match self.token().clone() {
                    Token::Literal(Literal::Int(n)) => Literal::Int(n.wrapping_neg()),
                    Token::Literal(Literal::Double(n)) => Literal::Double(-n),
                    _ => return self.primary(),
                };
                self.advance();
                self.node(offset, Kind::Literal(negated))
            }
            Token::Symbol(".") => {
                self.advance();
                let Token::Ident(name) = self.token().clone() else {
                    self.unexpected("IDENTIFIER", |_| false)?;
                    return Err(Stop);
                };
                self.advance();
                self.ident(offset, name)
            }
            Token::Symbol("(") => {
                self.advance();
                let inner = self.expr()?;
                self.close(")")?;
                Ok(inner)
            }
            Token::Symbol("[") => self.list(offset),
            Token::Symbol("{") => self.map(offset),
            _ => {
                self.unexpected(STARTS, starts_expression)?;
                self.member()
            }
        }
    }

    fn ident(&mut self, offset: usize, name: SmolStr) -> Parse<Expr> {
        if reserved::is_kept(&name) {
            self.report(offset, format!("reserved identifier: {name}"));
        }
        match self.take("(") {
            Some(open) => {
                let args = self.args()?;
                macros::global(self, open, name, args)
            }
            None => self.node(offset, Kind::Ident(name)),
        }
    }

    fn list(&mut self, offset: usize) -> Parse<Expr> {
        self.advance();
        let mut items = Vec::new();
        while self.take("]").is_none() {
            let optional = self.take("?").is_some();
            items.push(Item { value: self.expr()?, optional });
            if self.take(",").is_none() {
                self.close_of("]", "{']', ','}")?;
                break;
            }
        }
        self.node(offset, Kind::List(items))
    }

    fn map(&mut self, offset: usize) -> Parse<Expr> {
        self.advance();
        let mut entries = Vec::new();
        while self.take("}").is_none() {
            let optional = self.take("?").is_some();
            let key = self.expr()?;
            self.close(":")?;
            entries.push(Entry { key, value: self.expr()?, optional });
            if self.take(",").is_none() {
                self.close_of("}", "{'}', ','}")?;
                break;
            }
        }
        self.node(offset, Kind::Map(entries))
    }

    /// Takes a closing symbol before which a comma could have been.
    fn close_of(&mut self, symbol: &'static str, expecting: &str) -> Parse<()> {
        if self.take(symbol).is_some() {
            return Ok(());
        }
        self.unexpected(expecting, |t| matches!(t, Token::Symbol(s) if *s == symbol))?;
        self.close(symbol)
    }
}

fn starts_expression(token: &Token) -> bool {
    match token {
        Token::Symbol(s) => matches!(*s, "[" | "{" | "(" | "." | "-" | "!"),
        Token::Ident(_) | Token::Literal(_) | Token::Bad(_) => true,
        Token::Quoted(_) | Token::End => false,
    }
}
