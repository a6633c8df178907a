//! `sampanctl run`: a container with a service's settings, once, and nothing of it afterwards.
mod ends;
mod settings;
mod streams;
mod terminal;

use super::World;
use super::world::Ran;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A sampanctl that runs one, in the background of the test.
struct Client {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl World {
    /// `run` with these arguments.
    fn client(&self, args: &[&str]) -> Client {
        let mut command = Command::new(self.bin().join("sampanctl"));
        command.arg("--socket").arg(self.socket()).arg("run").args(args);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = piped.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Client { process, output }
    }

    /// Waits until nothing is left of it anywhere.
    #[track_caller]
    fn until_gone(&self, name: &str) {
        let mut left = Vec::new();
        self.until(&format!("{name} is gone"), |world| {
            let now = world.left_of(name);
            if !now.is_empty() && now != left {
                eprintln!("{name}: {now:?}");
                left = now.clone();
            }
            now.is_empty()
        });
    }

    /// What there is of it, in words.
    fn left_of(&self, name: &str) -> Vec<String> {
        let places = [
            "run/one-offs",
            "run/bundles",
            "run/containers",
            "run/io",
            "run/secrets",
            "state/one-offs",
            "state/logs",
            "state/images/roots",
        ];
        let mut left: Vec<PathBuf> = places.iter().map(|place| self.dir().join(place).join(name)).collect();
        left.retain(|path| path.exists());
        left.extend(self.groups().into_iter().filter(|group| group.ends_with(name)));
        let known = self.services().into_iter().filter(|status| status.name == name);
        left.iter().map(|path| path.display().to_string()).chain(known.map(|status| status.text)).collect()
    }

    /// The one-offs that there are.
    fn one_offs(&self) -> Vec<String> {
        let one_offs = self.services().into_iter().filter(|status| status.one_off_of.is_some());
        one_offs.map(|status| status.name).collect()
    }

    /// The only one-off, when it is there.
    fn the_one_off(&self) -> String {
        self.until("there is one", |world| world.one_offs().len() == 1);
        self.one_offs().remove(0)
    }
}

impl Client {
    /// The next line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    fn input(&mut self) -> &mut ChildStdin {
        self.process.stdin.as_mut().unwrap()
    }

    fn signal(&self, signal: i32) {
        super::world::kill(self.process.id().try_into().unwrap(), signal);
    }

    /// Its end, with what it has printed since.
    fn ended(mut self) -> Ran {
        drop(self.process.stdin.take());
        let (mut out, mut err) = (String::new(), String::new());
        self.output.read_to_string(&mut out).unwrap();
        self.process.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        Ran { code: self.process.wait().unwrap().code().unwrap_or(-1), out, err }
    }
}
