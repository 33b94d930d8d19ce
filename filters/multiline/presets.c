/*
 * presets.c - how the traces of eight languages look, a line at a time.
 *
 * A trace is a path through the states of its preset; docs/multiline.md shows one of each. What is
 * meant by the states stands beside them. Two rules hold for all:
 *
 *   - A rule that starts a trace is narrow, because its line waits for the next one. What only a
 *     trace can go on with may be wide, because it is asked behind a line of a trace alone.
 *   - What a huge trace is cut into must not fall apart, and neither must one whose first line is
 *     not known. So frames start a trace, too.
 *
 * No expression has a repeat of a repeat of the same characters: a line costs steps in proportion
 * to its length.
 */
#include "multiline.h"

#define START TF_TRACE_START
#define LAST  TF_TRACE_LAST

/* ---- java, with kotlin and scala ----------------------------------------------------------------
 */

enum { JAVA_HEAD = 1, JAVA_FRAMES = 2 };

#define JAVA_ANY (JAVA_HEAD | JAVA_FRAMES)

static const struct tf_trace_rule java[] = {
    /* The name of a class of exceptions with its package, wherever it stands in the line. */
    {START, JAVA_HEAD, "Exception|Error|Throwable",
     "(?:^|[^\\w.$/\"\\\\])(?:[a-z_][\\w$]*+\\.)++(?=[A-Z])[\\w$]*(?:Exception|Error|Throwable)"
     "(?:[:;\\s]|$)"},
    {START, JAVA_HEAD, "Exception in thread", "^Exception in thread \""},
    {START | JAVA_ANY, JAVA_HEAD,
     "Caused by: |Suppressed: |Wrapped by: ", "^\\s*(?:Caused by|Suppressed|Wrapped by): \\S"},
    {START, JAVA_FRAMES, "\tat |   at ", "^\\s+at [\\w$.<>@/-]+\\([^)]*\\)"},
    {JAVA_ANY, JAVA_FRAMES, NULL, "^\\s+at \\S.*\\)"},
    {JAVA_ANY, JAVA_FRAMES, NULL, "^\\s+\\.\\.\\. \\d+ "},
    {JAVA_ANY, JAVA_FRAMES, NULL, "^\\s+\\[CIRCULAR REFERENCE"},
    /* Of PostgreSQL's driver, and of Reactor, between the exception and its frames. */
    {JAVA_HEAD, JAVA_HEAD, NULL, "^\\s+(?:Detail|Hint|Position|Where|Location): "},
    {JAVA_HEAD, JAVA_HEAD, NULL, "^(?:Assembly trace from |Error has been observed at |\\s+[*|]_)"},
    {JAVA_HEAD, JAVA_FRAMES, NULL, "^Original Stack Trace:"},
    {0},
};

/* ---- python -------------------------------------------------------------------------------------
 */

enum {
    PYTHON_INTRO = 1,     /* where it happened; a traceback follows */
    PYTHON_FRAMES = 2,    /* files, their code, carets */
    PYTHON_EXCEPTION = 4, /* the exception was named */
    PYTHON_GAP = 8,       /* the empty line behind it */
    PYTHON_LINK = 16,     /* "During handling of ..."; another traceback follows */
    PYTHON_GROUP = 32     /* a traceback of many, each line with | or + before it */
};

static const struct tf_trace_rule python[] = {
    {START | PYTHON_LINK, PYTHON_GROUP, "Exception Group Traceback",
     "^\\s*\\+ Exception Group Traceback \\(most recent call last\\):\\s*$"},
    {START | PYTHON_INTRO | PYTHON_LINK, PYTHON_FRAMES,
     "Traceback (most recent call last):", "Traceback \\(most recent call last\\):\\s*$"},
    {START, PYTHON_INTRO, "Exception in |Exception ignored in|Task exception was never retrieved",
     "^Exception (?:in thread \\S+|ignored in:)|Exception in callback |"
     "Task exception was never retrieved$"},
    {PYTHON_INTRO, PYTHON_INTRO, NULL, "^[a-z_]+: <"},
    {START | PYTHON_FRAMES, PYTHON_FRAMES, "  File \"", "^\\s+File \".*\", line \\d+"},
    {PYTHON_FRAMES, PYTHON_FRAMES, NULL, "^\\s{2,}\\S"},
    {PYTHON_FRAMES, PYTHON_EXCEPTION, NULL, "^[A-Za-z_][\\w.<>]*(?:: .*|:?$)"},
    /* More of its message: what is indented, and what drivers of databases add. */
    {PYTHON_EXCEPTION, PYTHON_EXCEPTION, NULL,
     "^(?:\\s+\\S|(?:DETAIL|HINT|CONTEXT|QUERY|LINE \\d+): |\\[(?:SQL|parameters): |"
     "\\(Background on this error at: )"},
    {PYTHON_EXCEPTION, PYTHON_GAP, NULL, "^\\s*$"},
    {PYTHON_GAP | PYTHON_EXCEPTION, PYTHON_LINK, NULL,
     "^(?:During handling of the above exception|The above exception was the direct cause)"},
    {PYTHON_LINK, PYTHON_LINK, NULL, "^\\s*$"},
    {PYTHON_GROUP, PYTHON_GROUP, NULL, "^\\s+[|+]"},
    {PYTHON_GROUP, PYTHON_GAP, NULL, "^\\s*$"},
    {0},
};

/* ---- go -----------------------------------------------------------------------------------------
 */

enum {
    GO_HEAD = 1,  /* why it stopped */
    GO_STACK = 2, /* functions and files of one goroutine */
    GO_GAP = 4    /* the empty line before the next goroutine, or the registers */
};

static const struct tf_trace_rule go[] = {
    {START, GO_HEAD, "panic: |fatal error: |unexpected fault address |goroutine stack exceeds",
     "^(?:panic: |fatal error: |unexpected fault address |runtime: goroutine stack exceeds )"},
    {START, GO_HEAD, "http: panic serving", "http: panic serving \\S+: "},
    {START, GO_HEAD, "SIGQUIT: |SIGABRT: |SIGSEGV: |SIGBUS: ", "^SIG[A-Z]+: [a-z ]+$"},
    {GO_HEAD, GO_HEAD, NULL, "^(?:\\s*panic: |fatal error: |\\[signal |PC=0x|sp=0x)"},
    {START | GO_HEAD | GO_STACK | GO_GAP, GO_STACK,
     "goroutine |runtime stack:", "^(?:goroutine \\d+ [^\\[]*\\[[^\\]]*\\]:|runtime stack:)$"},
    {GO_STACK, GO_STACK, NULL, "^\\t\\S"},
    {GO_STACK, GO_STACK, NULL,
     "^(?:created by \\S|\\.\\.\\..*frames elided\\.\\.\\.|\\[originating from goroutine )"},
    {GO_STACK, GO_STACK, NULL, "^(?:panic|[^\\s(]+\\.(?:\\(\\*?[^\\s()]+\\))?[^\\s(]*)\\(.*\\)$"},
    {GO_HEAD | GO_STACK, GO_GAP, NULL, "^\\s*$"},
    {GO_GAP, GO_GAP, NULL, "^(?:\\[signal |[a-z]{1,6}\\d{0,2}\\s+0x[0-9a-f]+$)"},
    {GO_HEAD | GO_STACK | GO_GAP, LAST, NULL, "^exit status \\d+$"},
    {0},
};

/* ---- dotnet -------------------------------------------------------------------------------------
 */

enum {
    DOTNET_HEAD = 1,   /* an exception was named */
    DOTNET_FRAMES = 2, /* where it came from */
    DOTNET_DATA = 4,   /* what the exception holds besides */
    DOTNET_LOGGED = 8  /* an entry of the console logger: all of it is indented by six */
};

#define DOTNET_ANY (DOTNET_HEAD | DOTNET_FRAMES | DOTNET_DATA)

static const struct tf_trace_rule dotnet[] = {
    {START, DOTNET_LOGGED, "fail: |crit: ", "^(?:fail|crit): [\\w.+`]+\\[\\d+\\]$"},
    {DOTNET_LOGGED, DOTNET_LOGGED, NULL, "^ {6}"},
    {START, DOTNET_HEAD, "Unhandled exception|Unhandled Exception",
     "^Unhandled [Ee]xception[.:] \\S"},
    {START, DOTNET_HEAD, "Exception",
     "(?:^|[\\s(\\[])(?:[A-Z]\\w*+\\.)++\\w*Exception(?: \\(\\w+\\))?(?::|$)"},
    {START | DOTNET_ANY, DOTNET_HEAD, " ---> ", "^\\s*---> \\S"},
    {START, DOTNET_FRAMES, "   at ",
     "^\\s+at [\\w.`<>\\[\\],+$|-]+\\(.*\\)(?: in .+:line \\d+)?\\s*$"},
    {DOTNET_ANY, DOTNET_FRAMES, NULL, "^\\s+at \\S"},
    {DOTNET_ANY, DOTNET_FRAMES, NULL, "^\\s*--- End of "},
    {DOTNET_HEAD, DOTNET_HEAD, NULL, "^(?:File name: |Parameter name: |Actual value was )"},
    {DOTNET_FRAMES, DOTNET_FRAMES, NULL, "^(?:ClientConnectionId|Error Number):"},
    {DOTNET_FRAMES, DOTNET_DATA, NULL, "^\\s+Exception data:$"},
    {DOTNET_DATA, DOTNET_DATA, NULL, "^ {4,}\\w+: "},
    {0},
};

/* ---- node ---------------------------------------------------------------------------------------
 */

enum {
    NODE_SOURCE = 1,  /* the place of an uncaught error; its line of code follows */
    NODE_CODE = 2,    /* that line; carets follow */
    NODE_CARET = 4,   /* the carets; an empty line follows */
    NODE_ERROR = 8,   /* the empty line; the error follows */
    NODE_HEAD = 16,   /* the error was named */
    NODE_FRAMES = 32, /* where it came from */
    NODE_FIELDS = 64, /* what it holds besides, in braces, its causes too */
    NODE_END = 128,   /* behind the brace */
    NODE_GAP = 256    /* the empty line before the version */
};

static const struct tf_trace_rule node[] = {
    {START, NODE_SOURCE, ".js:|.mjs:|.cjs:|.ts:|.mts:|.cts:|.jsx:|.tsx:|node:",
     "^(?:(?:file://)?/\\S*\\.[cm]?[jt]sx?|node:[\\w/-]+):\\d+$"},
    {NODE_SOURCE, NODE_CODE, NULL, "^(?![\\d\\[{]).*[(){};=,]"},
    {NODE_CODE, NODE_CARET, NULL, "^\\s*\\^+\\s*$"},
    {NODE_CARET, NODE_ERROR, NULL, "^\\s*$"},
    {NODE_ERROR, NODE_HEAD, NULL, "^\\S"},
    {START, NODE_HEAD, "Error", "(?:^|[\\s\\[])(?:[A-Z]\\w*)?Error(?: \\[\\w+\\])?(?::|$)"},
    {NODE_HEAD | NODE_FRAMES, NODE_FIELDS, NULL, "^\\s+at .* \\{$"},
    {START, NODE_FRAMES, "    at ",
     "^\\s+at .*(?::\\d+:\\d+\\)?|\\((?:<anonymous>|native|index \\d+)\\))$"},
    {NODE_HEAD | NODE_FRAMES, NODE_FRAMES, NULL, "^\\s+at \\S"},
    {NODE_FRAMES, NODE_FRAMES, NULL, "^\\s+\\.\\.\\. \\d+ lines matching "},
    {NODE_FRAMES, NODE_FRAMES, NULL, "^Emitted '.*' event "},
    {NODE_HEAD, NODE_HEAD, NULL, "^(?:Require stack:|- /|Thrown at:)"},
    {NODE_FIELDS, NODE_FIELDS, NULL, "^\\s+\\S"},
    {NODE_FIELDS, NODE_END, NULL, "^\\}"},
    {NODE_FRAMES | NODE_END, NODE_GAP, NULL, "^\\s*$"},
    {NODE_GAP, NODE_FRAMES, NULL, "^Thrown at:$"},
    {NODE_FRAMES | NODE_END | NODE_GAP, LAST, NULL, "^Node\\.js v\\d"},
    {0},
};

/* ---- ruby ---------------------------------------------------------------------------------------
 */

enum {
    RUBY_FRAMES = 1,   /* file:line:in */
    RUBY_GAP = 2,      /* the empty line before the line of code */
    RUBY_CODE = 4,     /* that line; carets follow */
    RUBY_RAILS = 8,    /* what Rails says before the frames */
    RUBY_BLANK = 16,   /* the empty line behind that */
    RUBY_REVERSED = 32 /* frames before the error, as Ruby 2.5 to 2.7 write them */
};

static const struct tf_trace_rule ruby[] = {
    {START, RUBY_FRAMES, ":in `|:in '", "(?:^|\\s)\\S+:\\d+:in [`']"},
    {RUBY_FRAMES | RUBY_RAILS | RUBY_BLANK, RUBY_FRAMES, NULL, "^\\s*(?:from )?\\S+:\\d+:in [`']"},
    {RUBY_FRAMES, RUBY_FRAMES, NULL, "^\\s+\\.{3} \\d+ levels\\.{3}"},
    {RUBY_FRAMES | RUBY_GAP, RUBY_FRAMES, NULL, "^Did you mean\\?"},
    {RUBY_FRAMES, RUBY_GAP, NULL, "^\\s*$"},
    {RUBY_GAP, RUBY_FRAMES, NULL, "^\\s+from \\S+:\\d+:in "},
    {RUBY_GAP, RUBY_CODE, NULL, "^(?![\\d\\[{]).*[.(=\\[{\"']"},
    {RUBY_CODE, RUBY_FRAMES, NULL, "^\\s*\\^+\\s*$"},
    {START, RUBY_RAILS, "Error (|Exception (|NotFound (|Invalid (|Missing (",
     "^(?:\\[[^\\]]*\\] )*(?:[A-Z]\\w*+::)*+"
     "(?=[A-Z])\\w*(?:Error|Exception|NotFound|Invalid|Missing) \\(.*\\):?\\s*$"},
    {RUBY_RAILS, RUBY_RAILS, NULL, "^\\s+\\d+: "},
    {RUBY_RAILS, RUBY_BLANK, NULL, "^\\s*$"},
    {START, RUBY_REVERSED,
     "Traceback (most recent call last):", "^Traceback \\(most recent call last\\):$"},
    {RUBY_REVERSED, RUBY_REVERSED, NULL, "^\\t\\s*\\d+: from "},
    {RUBY_REVERSED, RUBY_FRAMES, NULL, "^\\S+:\\d+:in [`'].*\\)$"},
    {0},
};

/* ---- php ----------------------------------------------------------------------------------------
 */

enum {
    PHP_HEAD = 1,  /* an error was named */
    PHP_TRACE = 2, /* its numbered frames */
    PHP_GAP = 4,   /* the empty line before the next exception */
    PHP_LOGGED = 8 /* a line of Monolog that is open at its end */
};

/* What PHP's own log may put before each line. */
#define PHP_TIME "(?:\\[[^\\]]*\\] )?"

static const struct tf_trace_rule php[] = {
    {START, PHP_HEAD, "PHP Fatal|PHP Parse|PHP Recov|PHP Warning|PHP Notice|PHP Deprec",
     "PHP (?:Fatal error|Parse error|Recoverable fatal error|Warning|Notice|Deprecated): +\\S"},
    {START, PHP_HEAD, "Fatal error: ", "^Fatal error: +\\S"},
    {START, PHP_HEAD, ".php:", "(?:Exception|Error)\\b.* in \\S+\\.php:\\d+$"},
    {START, PHP_LOGGED, "\"exception\":\"[object]", "\"exception\":\"\\[object\\] \\(.*[^}\\s]$"},
    {PHP_LOGGED, PHP_TRACE, NULL, "^\\[stacktrace\\]$"},
    {START | PHP_HEAD | PHP_GAP, PHP_TRACE, "Stack trace:", "^" PHP_TIME "(?:PHP )?Stack trace:$"},
    {PHP_TRACE, PHP_TRACE, NULL, "^" PHP_TIME "(?:#\\d+ |PHP +\\d+\\. )"},
    {PHP_TRACE, PHP_TRACE, NULL, "^\\[previous exception\\] "},
    {PHP_TRACE, PHP_GAP, NULL, "^\\s*$"},
    {PHP_TRACE | PHP_GAP, PHP_HEAD, NULL, "^Next \\S"},
    {PHP_TRACE, LAST, NULL, "^\\s+thrown in .* on line \\d+"},
    {PHP_TRACE, LAST, NULL, "^\"\\}"},
    {0},
};

/* ---- rust ---------------------------------------------------------------------------------------
 */

enum {
    RUST_PANIC = 1,  /* where it panicked; why follows */
    RUST_WHY = 2,    /* why, or a note */
    RUST_FRAMES = 4, /* its backtrace */
    RUST_ERROR = 8,  /* an error that main returned */
    RUST_GAP = 16,   /* the empty line behind it */
    RUST_CAUSES = 32 /* its causes, or where it came from */
};

static const struct tf_trace_rule rust[] = {
    {START, RUST_PANIC, "panicked at ", "^thread '.*' (?:\\(\\d+\\) )?panicked at .*:\\d+:\\d+:$"},
    {START, RUST_WHY, "panicked at ", "^thread '.*' (?:\\(\\d+\\) )?panicked at "},
    {RUST_PANIC, RUST_WHY, NULL, "\\S"},
    {RUST_WHY, RUST_WHY, NULL, "^\\s+\\S"},
    {RUST_WHY | RUST_FRAMES, RUST_WHY, NULL, "^note: "},
    {START | RUST_WHY, RUST_FRAMES, "stack backtrace:", "^stack backtrace:$"},
    {RUST_FRAMES, RUST_FRAMES, NULL, "^\\s+(?:\\d+: |at |\\[)"},
    {RUST_WHY | RUST_FRAMES, LAST, NULL, "^thread caused non-unwinding panic"},
    {START, RUST_ERROR, "Error: ", "^Error: \\S"},
    {RUST_ERROR | RUST_CAUSES, RUST_GAP, NULL, "^\\s*$"},
    {RUST_GAP, RUST_CAUSES, NULL, "^(?:Caused by|Location|Stack backtrace|Backtrace):$"},
    {RUST_CAUSES, RUST_CAUSES, NULL, "^\\s+\\S"},
    {0},
};

const struct tf_trace_preset tf_trace_presets[TF_PRESETS_MAX] = {
    {"java", java}, {"python", python}, {"go", go},   {"dotnet", dotnet},
    {"node", node}, {"ruby", ruby},     {"php", php}, {"rust", rust},
};
